"""`runner message show`: messages that are looked for, that are not there, that came back; and errors that are not kept."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.cli.test_message import functions
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHOP = """
    import os

    from runner import Context, Reject, Retry, consume

    @consume("orders.{customer}.created", output="payments.{customer}.charged")
    async def charge(body: dict, customer: str) -> dict:
        if body.get("bad") and not os.path.exists("mended"):
            raise Reject("nothing to charge")
        return body

    @consume("orders.{customer}.failing", concurrency=256)
    async def fail(body: dict) -> None:
        raise Retry("the bank is closed", after=600)
"""
OTHER = """
    from runner import consume

    @consume("orders.*.created")
    async def audit(body: dict) -> None: ...
"""


@pytest.fixture
async def project(make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream) -> Project:
    await js.create("ORDERS", ["orders.>"], allow_direct=True)
    await js.create("PAYMENTS", ["payments.>"], allow_direct=False)
    return make_project(functions={"shop": SHOP}, nats=nats_server.url)


def show(project: Project, *arguments: str, **more: Any) -> Any:
    return project.json("message", "show", *arguments, **more)


async def charged(project: Project, message: str, state: str) -> dict[str, Any]:
    async def there() -> bool:
        told = functions(await asyncio.to_thread(show, project, message))
        return bool(told["charge"]["state"] == state)

    await eventually(there)
    found: dict[str, Any] = functions(show(project, message))["charge"]
    return found


async def test_messages_are_found_by_key_header_and_time_in_a_search_that_says_where_it_ended(
    project: Project, js: RawJetStream
) -> None:
    for number in range(600):
        await js.publish(f"orders.c{number % 3}.created", {"n": number}, {"Tenant": f"t{number}"})
    later = datetime.now(UTC).isoformat()
    last = await js.publish("orders.c9.created", {})
    told = show(project, "ORDERS", "--key", "c1", "--limit", "4", "--depth", "0")
    assert [each["sequence"] for each in told["messages"]] == [2, 5, 8, 11]
    assert told["search"] == {"looked_at": 11, "last": 11, "whole": False}
    told = show(project, "ORDERS", "--header", "tenant=t400")
    assert [each["sequence"] for each in told["messages"]] == [401]
    assert told["search"] == {"looked_at": 601, "last": 601, "whole": True}
    assert [each["sequence"] for each in show(project, "ORDERS", "--time", later)["messages"]] == [last]
    told = show(project, "ORDERS", "--since", "1h", "--key", "nobody")
    assert (told["messages"], told["search"]["whole"]) == ([], True)
    done = project.runner("message", "show", "ORDERS", "--key", "c1", "--limit", "1")
    assert done.stdout.startswith("ORDERS:2  orders.c1.created  ")
    assert "2 messages looked at, up to ORDERS:2; 1 found" in done.stderr
    assert "begin with --since" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "error", "hint"),
    [
        (["ORDRES:1"], 2, "there is no stream ORDRES", "ORDERS"),
        (
            ["ORDERS:7"],
            1,
            "ORDERS:7 is not stored yet: the last one there is ORDERS:1",
            "message show ORDERS",
        ),
        (["PAYMENTS:1"], 1, "it holds nothing yet", ""),
        (["ORDERS"], 2, "ORDERS names no message", "STREAM:SEQ"),
        (["ORDERS:one"], 2, "'ORDERS:one' is not a message", "ORDERS:17"),
        (["ORDERS:1", "--key", "c1"], 2, "ORDERS:1 is one message already", "--since"),
        (["ORDERS", "--header", "Tenant"], 2, "--header 'Tenant' is not NAME=VALUE", "Tenant=acme"),
        (["ORDERS", "--since", "5"], 2, "has no unit", "5m"),
        (["ORDERS", "--time", "noon"], 2, "--time 'noon' is neither", "24h"),
    ],
)
async def test_what_names_no_message_is_an_error_with_a_hint(
    project: Project, js: RawJetStream, arguments: list[str], code: int, error: str, hint: str
) -> None:
    await js.publish("orders.c1.created", {})
    done = project.runner("message", "show", *arguments)
    assert done.code == code
    assert error in done.stderr
    assert hint in done.stderr.partition("hint:")[2]
    told = json.loads(
        project.runner("message", "show", *arguments, "--output", "json").stderr.splitlines()[-1]
    )
    assert (error in told["error"]["message"], told["error"]["exit_code"]) == (True, code)


async def test_a_message_that_is_sent_back_is_told_as_such_until_it_is_done(
    project: Project, js: RawJetStream
) -> None:
    first = project.start("run")
    await first.seen("ready")
    await js.publish("orders.c1.created", {"bad": True})
    await charged(project, "ORDERS:1", "dead")
    letter = show(project, "DEADLETTERS:1")
    assert letter["copy_of"] == "ORDERS:1"
    assert letter["functions"] == []
    first.terminate()
    await first.ended()
    (project.root / "mended").touch()
    assert project.runner("deadletter", "redrive", "--all").code == 0
    told = functions(show(project, "ORDERS:1"))["charge"]
    assert (told["state"], told["sent_back"]) == ("waiting", "JETRUNNER:1")
    assert show(project, "JETRUNNER:1")["copy_of"] == "ORDERS:1"
    await project.start("run").seen("ready")
    told = await charged(project, "ORDERS:1", "done")
    # PAYMENTS answers for one message at a time.
    assert [each["message_id"] for each in told["outputs"]] == ["PAYMENTS:1"]


async def test_a_message_sent_back_behind_more_than_a_hundred_is_told_with_what_was_not_looked_at(
    project: Project, js: RawJetStream
) -> None:
    process = project.start("run")
    await process.seen("ready")
    await js.publish("orders.c1.created", {"bad": True})
    await charged(project, "ORDERS:1", "dead")
    process.terminate()
    await process.ended()
    for _ in range(101):
        await js.publish("$JETRUNNER.again.shop.charge", {})
    assert project.runner("deadletter", "redrive", "--all").code == 0
    told = functions(show(project, "ORDERS:1"))["charge"]
    assert told["why"] == "or sent back and not looked at: there are too many"


async def test_functions_of_other_projects_are_told_too(
    project: Project, js: RawJetStream, make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    other = make_project(name="books", functions={"audit": OTHER}, nats=nats_server.url)
    for each in (project, other):
        await each.start("run").seen("ready")
    await js.publish("orders.c1.created", {})
    await charged(project, "ORDERS:1", "done")
    told = {each["function"]: each["project"] for each in show(project, "ORDERS:1")["functions"]}
    assert told == {"audit": "books", "charge": "shop"}


async def test_errors_over_a_hundred_a_second_are_counted_and_not_kept(
    project: Project, js: RawJetStream
) -> None:
    for number in range(600):
        await js.publish(f"orders.c{number}.failing", {})
    port = free_port()
    began = time.monotonic()
    process = project.start("run", "--health", f"127.0.0.1:{port}")
    await process.seen("ready")

    def counted() -> tuple[int, int]:
        (told,) = [each for each in project.json("status")["functions"] if each["function"] == "fail"]
        return told["failures"], told["errors_unkept"]

    await eventually(lambda: counted()[0] == 600)
    most_kept = 100 + 100 * (time.monotonic() - began)
    _, unkept = counted()
    assert max(1, 600 - most_kept) <= unkept <= 500

    async def all_kept() -> bool:
        return await js.count("JETRUNNER_ERRORS") == 600 - unkept

    await eventually(all_kept)
    assert f"fail: {unkept} errors of attempts to be retried not kept" in project.runner("status").stderr
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    assert f'jetrunner_errors_unkept_total{{function="fail"}} {unkept}.0\n' in text
    first = (await js.messages("JETRUNNER_ERRORS"))[0]
    assert first.subject.startswith("$JETRUNNER.error.shop.fail.ORDERS.")
    process.kill()
    project.function("shop", SHOP.partition('@consume("orders.{customer}.failing"')[0])
    assert project.runner("function", "forget", "fail", "--yes").code == 0
    assert await js.count("JETRUNNER_ERRORS") == 0
