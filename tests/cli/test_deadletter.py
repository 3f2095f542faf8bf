"""`runner deadletter`: browse what was given up, and send it back to its function alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.server

LIMIT = 1_048_576
"""The server's max_payload."""

SHOP = """
    import os

    from journal import note
    from runner import Context, Reject, RetryPolicy, consume

    @consume("orders.{id}", retry=RetryPolicy(attempts=2, delay=0))
    async def charge(body: bytes, id: str, ctx: Context) -> None:
        if not os.path.exists("mended"):
            if id.startswith("bad"): raise Reject("nothing to charge")
            if id.startswith("odd"): raise ValueError("unlucky")
        note("charge", id=id, message_id=ctx.message_id, attempt=ctx.attempt, subject=ctx.subject, size=len(body),
             headers=dict(ctx.headers))

    @consume("orders.{id}")
    async def audit(body: bytes, id: str) -> None:
        note("audit", id=id)
"""


class Till:
    """A running project, and what its dead letters are."""

    def __init__(self, project: Project, js: RawJetStream, process: RunnerProcess) -> None:
        self.project = project
        self.js = js
        self.process = process

    async def kill_off(self, *ids: str, body: bytes = b"{}", headers: dict[str, str] | None = None) -> None:
        """Publish orders that end as dead letters."""
        before = await self.js.count("DEADLETTERS")
        for order in ids:
            await self.js.publish(f"orders.{order}", body, headers)

        async def buried() -> bool:
            return await self.js.count("DEADLETTERS") == before + len(ids)

        await eventually(buried)

    def mend(self) -> None:
        (self.project.root / "mended").touch()

    async def charged(self, count: int = 1) -> list[dict[str, Any]]:
        await eventually(lambda: len(self.project.journal("charge")) >= count)
        return self.project.journal("charge")


@pytest.fixture
async def till(make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream) -> Till:
    await js.create("ORDERS", ["orders.*"])
    project = make_project(functions={"shop": SHOP}, nats=nats_server.url)
    process = project.start("run")

    async def reads() -> bool:
        return len((await js.api("CONSUMER.NAMES.JETRUNNER"))["consumers"] or []) >= 2

    await eventually(reads)
    return Till(project, js, process)


async def test_the_list_says_why_and_where_from(till: Till) -> None:
    await till.kill_off("bad1", "odd2")
    first, second = sorted(
        till.project.json("deadletter", "list"), key=lambda letter: letter["stream_sequence"]
    )
    assert {**first, "time": ""} == {
        "sequence": first["sequence"], "time": "", "project": "shop", "function": "charge", "reason": "rejected",
        "error": "Reject", "message": "nothing to charge", "message_id": "ORDERS:1", "stream": "ORDERS",
        "stream_sequence": 1, "subject": "orders.bad1", "attempts": 1, "body_size": 2, "body_omitted": False,
        "headers_omitted": False,
    }  # fmt: skip
    assert (second["reason"], second["attempts"], second["error"]) == ("exhausted", 2, "ValueError")
    text = till.project.runner("deadletter", "list").stdout.splitlines()
    assert text[0].split() == ["SEQUENCE", "TIME", "FUNCTION", "REASON", "ATTEMPTS", "MESSAGE", "ERROR"]
    assert len(text) == 3


async def test_the_list_is_filtered_and_limited_to_the_newest(till: Till) -> None:
    await till.kill_off(*(f"bad{at}" for at in range(4)))
    await till.kill_off("odd")
    listed = till.project.json
    assert [letter["subject"] for letter in listed("deadletter", "list", "--reason", "exhausted")] == [
        "orders.odd"
    ]
    assert listed("deadletter", "list", "--function", "audit") == []
    assert len(listed("deadletter", "list", "--function", "charge", "--since", "1m")) == 5
    assert listed("deadletter", "list", "--since", "2100-01-01") == []
    done = till.project.runner("deadletter", "list", "--limit", "2", "--output", "json")
    assert [letter["sequence"] for letter in json.loads(done.stdout)] == [4, 5]
    assert "the newest 2 of 5" in done.stderr


async def test_more_than_one_page_is_read(till: Till) -> None:
    await till.kill_off(*(f"bad{at}" for at in range(600)))
    sequences = [letter["sequence"] for letter in till.project.json("deadletter", "list", "--limit", "0")]
    assert sequences == list(range(1, 601))
    till.mend()
    done = till.project.json("deadletter", "redrive", "--all")
    assert (len(done["redriven"]), done["kept"]) == (600, [])
    assert {note["id"] for note in await till.charged(600)} == {f"bad{at}" for at in range(600)}


async def test_one_is_shown_whole(till: Till) -> None:
    await till.kill_off("odd", body=b"caf\xc3\xa9", headers={"Tenant": "acme"})
    document = till.project.json("deadletter", "show", "1")
    assert (document["body"], document["headers"]) == ("café", {"Tenant": "acme"})
    assert document["traceback"].startswith("Traceback")
    assert "shop.py" in document["traceback"]
    text = till.project.runner("deadletter", "show", "1").stdout
    assert text.endswith("café\n")
    assert "  Tenant: acme" in text
    await till.kill_off("bad", body=b"\xff\xfe")
    assert till.project.json("deadletter", "show", "2")["body_base64"] == "//4="


async def test_one_goes_back_to_its_function_alone_as_the_message_it_was(till: Till) -> None:
    await till.kill_off("odd", body=b"12345", headers={"Tenant": "acme", "Nats-Msg-Id": "mine"})
    await eventually(lambda: till.project.journal("audit"))
    till.mend()
    done = till.project.json("deadletter", "redrive", "1")
    assert {**done["redriven"][0], "trace_id": ""} == {
        "sequence": 1, "function": "charge", "message_id": "ORDERS:1", "trace_id": "",
    }  # fmt: skip
    (note,) = await till.charged()
    assert (note["message_id"], note["attempt"], note["subject"], note["size"]) == (
        "ORDERS:1",
        1,
        "orders.odd",
        5,
    )
    assert note["headers"]["Tenant"] == "acme"
    assert note["headers"]["Jetrunner-Origin-Msg-Id"] == "mine"
    assert not any(name.startswith("Jetrunner-Dead") for name in note["headers"])
    assert len(till.project.journal("audit")) == 1
    assert await till.js.count("DEADLETTERS") == 0


async def test_what_dies_again_is_a_dead_letter_again_and_not_sent_twice(till: Till) -> None:
    await till.kill_off("bad")
    assert len(till.project.json("deadletter", "redrive", "--function", "charge")["redriven"]) == 1

    async def again() -> bool:
        return [letter.sequence for letter in await till.js.messages("DEADLETTERS")] == [2]

    await eventually(again)
    (letter,) = till.project.json("deadletter", "list")
    assert (letter["message_id"], letter["subject"]) == ("ORDERS:1", "orders.bad")


async def test_a_filter_sends_back_what_it_selects(till: Till) -> None:
    await till.kill_off("bad")
    await till.kill_off("odd")
    till.mend()
    done = till.project.json("deadletter", "redrive", "--reason", "exhausted")
    assert [sent["sequence"] for sent in done["redriven"]] == [2]
    assert [letter["reason"] for letter in till.project.json("deadletter", "list")] == ["rejected"]


async def test_what_goes_back_is_listed(till: Till) -> None:
    await till.kill_off("bad1", "bad2")
    till.mend()
    lines = till.project.runner("deadletter", "redrive", "--all").stdout.splitlines()
    assert sorted(lines[1:-1]) == ["       1  charge    ORDERS:1", "       2  charge    ORDERS:2"]
    assert lines[-1] == "2 redriven, 0 failed"


async def test_a_misspelt_function_is_wrong_usage(till: Till) -> None:
    await till.kill_off("bad1")
    for command in ("list", "redrive"):
        done = till.project.runner("deadletter", command, "--function", "chagre")
        assert (done.code, done.stdout) == (2, "")
        assert "error: there is no function 'chagre'" in done.stderr
        assert "hint: did you mean 'charge'?" in done.stderr
    done = till.project.runner("deadletter", "list", "--function", "audit")
    assert (done.code, done.stdout) == (0, "")  # it is one of the project's


async def test_a_rate_spreads_them(till: Till) -> None:
    await till.kill_off(*(f"bad{at}" for at in range(5)))
    till.mend()
    began = time.monotonic()
    assert len(till.project.json("deadletter", "redrive", "--all", "--rate", "2/s")["redriven"]) == 5
    assert time.monotonic() - began >= 2  # of the command alone: a runner that stands still sees all at once
    assert len(await till.charged(5)) == 5


async def test_an_omitted_body_is_read_from_where_it_stood(till: Till) -> None:
    size = LIMIT - 300
    await till.kill_off("odd", body=b"x" * size)
    (letter,) = till.project.json("deadletter", "list")
    assert letter["body_omitted"]
    till.mend()
    assert len(till.project.json("deadletter", "redrive", "1")["redriven"]) == 1
    assert [note["size"] for note in await till.charged()] == [size]


async def test_a_body_that_leaves_no_room_for_its_origin_stays_and_is_told(till: Till) -> None:
    await till.kill_off("odd", body=b"x" * (LIMIT - 100))
    done = till.project.runner("deadletter", "redrive", "1")
    assert done.code == 1
    assert "dead letter 1 is kept: a message to $JETRUNNER.again.shop.charge has" in done.stderr
    assert await till.js.count("DEADLETTERS") == 1


async def test_an_omitted_body_that_is_gone_keeps_the_dead_letter(till: Till) -> None:
    await till.kill_off("odd", body=b"x" * (LIMIT - 300))
    await till.js.api("STREAM.MSG.DELETE.ORDERS", {"seq": 1})
    done = till.project.runner("deadletter", "redrive", "1", "--output", "json")
    assert done.code == 1
    assert json.loads(done.stdout)["redriven"] == []
    assert "dead letter 1 is kept: its body was omitted, and ORDERS:1 is not there any more" in done.stderr
    assert await till.js.count("DEADLETTERS") == 1


async def test_one_that_nobody_would_read_stays(till: Till) -> None:
    await till.kill_off("bad")
    till.process.terminate()
    await till.process.ended()
    await till.js.api("CONSUMER.DELETE.JETRUNNER.shop-charge")
    done = till.project.runner("deadletter", "redrive", "--all")
    assert (done.code, done.stdout) == (1, "0 redriven, 1 failed\n")
    assert "no instance takes what is redriven to charge" in done.stderr
    assert await till.js.count("DEADLETTERS") == 1


def test_without_any_there_is_an_empty_list(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(nats=nats_server.url)
    assert project.json("deadletter", "list") == []
    assert project.json("deadletter", "redrive", "--all") == {
        "redriven": [],
        "kept": [],
        "missing": [],
    }
    done = project.runner("deadletter", "redrive", "4")
    assert (done.code, done.stdout) == (1, "0 redriven, 0 failed, 1 not there\n")
    assert done.stderr == "error: there is no dead letter 4\nhint: runner deadletter list shows them\n"
    done = project.runner("deadletter", "show", "7")
    assert (done.code, done.stdout) == (1, "")
    assert "error: there is no dead letter 7" in done.stderr
    assert project.runner("deadletter", "redrive", "7").code == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("redrive",), "--since, or --all; or --key"),
        (("redrive", "--key", "a", "--key", "b c"), "--key 'b c' is none"),
        (("redrive", "1", "--all"), "not both"),
        (("redrive", "--all", "--rate", "fast"), "is not a rate"),
        (("list", "--since", "yesterday"), "neither a duration nor a time"),
        (("list", "--since", "5"), "write 5s, 5m, 5h or 5d"),
        (("list", "--reason", "boredom"), "boredom"),
        (("list", "--function", "a.b"), "cannot be the name of a function"),
        (("show", "0"), "0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_wrong_usage(
    make_project: Callable[..., Project], arguments: tuple[str, ...], sentence: str
) -> None:
    done = make_project(nats="nats://127.0.0.1:1").runner("deadletter", *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert sentence in done.stderr
