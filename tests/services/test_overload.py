"""A bounded place to wait: what finds none is refused at once, and was not begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from runner import reply
from runner.core.admission import FIRST
from tests.services.conftest import Answering
from tests.support.asker import Asker, asking
from tests.support.eventually import eventually
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

started: list[int] = []
go_on: list[asyncio.Event] = []


@reply("slow.{number}", concurrency=2)
async def slow(number: int) -> int:
    started.append(number)
    await go_on[-1].wait()
    return number


@pytest.fixture(autouse=True)
def _fresh() -> None:
    started.clear()
    go_on[:] = [asyncio.Event()]


async def test_what_finds_no_place_is_refused_at_once_and_the_rest_is_answered(answering: Answering) -> None:
    go_on[:] = [asyncio.Event()]
    async with answering(slow) as (app, asker):
        first = [asker.asked(f"slow.{number}") for number in range(2)]
        await eventually(lambda: sorted(started) == [0, 1])
        admitted = [asker.asked(f"slow.{number}") for number in range(2, 2 + FIRST)]
        await asker.flush()
        # At once: nothing that runs or waits comes to its end before `go_on`.
        refused = await asyncio.gather(
            *(asker.ask(f"slow.{number}", within=60) for number in range(9_000, 9_050))
        )
        assert {(each.code, each.not_started) for each in refused} == {(429, "overloaded")}
        assert refused[0].header == (
            b"NATS/1.0\r\nNats-Service-Error: too many requests wait here: ask another instance, or later\r\n"
            b"Nats-Service-Error-Code: 429\r\nJetrunner-Not-Started: overloaded\r\n\r\n"
        )
        (endpoint,) = msgspec.json.decode((await asker.ask("$SRV.STATS.test")).body)["endpoints"]
        assert endpoint["data"] == {
            "in_flight": 2,
            "queued": FIRST,
            "overloaded": 50,
            "expired": 0,
            "held": 0,
        }
        assert (endpoint["num_requests"], endpoint["num_errors"]) == (0, 0)
        go_on[-1].set()
        answers = await asyncio.gather(*first, *admitted)
        assert [int(each.body) for each in answers] == list(range(2 + FIRST))
        assert set(started) == set(range(2 + FIRST)), "what was refused has not begun"
        await app.settled()


async def test_one_without_a_reply_is_dropped_where_there_is_no_place(answering: Answering) -> None:
    go_on[:] = [asyncio.Event()]
    async with answering(slow) as (app, asker):
        for number in range(FIRST + 20):
            asker.send(f"slow.{number}")
        (endpoint,) = msgspec.json.decode((await asker.ask("$SRV.STATS.test")).body)["endpoints"]
        dropped = endpoint["data"]["overloaded"]
        assert 18 <= dropped <= 20
        go_on[-1].set()
        await app.settled()
        assert len(started) == FIRST + 20 - dropped
        assert (await asker.ask("slow.99999")).body == b"99999"
        assert asker.answers.empty()


async def test_requests_wait_with_no_more_bytes_than_the_process_may_hold(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    source = """
        import asyncio
        from pathlib import Path
        from runner import reply

        @reply("large", concurrency=1)
        async def large(body: bytes) -> int:
            while not Path("go").exists():
                await asyncio.sleep(0.01)
            return len(body)
    """
    project = make_project(
        functions={"shop": source}, settings='max_bytes_in_flight = "1MiB"\n', nats=nats_server.url
    )
    await project.start("run").seen("ready: ")
    async with asking(nats_server.url) as asker:
        first = asker.asked("large", b"x" * 600_000)
        await eventually(lambda: _running(asker))
        waiting = asker.asked("large", b"x" * 600_000)
        refused = await asker.ask("large", b"x" * 600_000)
        assert refused.not_started == "overloaded"
        small = asker.asked("large", b"x")
        (project.root / "go").touch()
        assert [int((await each).body) for each in (first, waiting, small)] == [600_000, 600_000, 1]
        assert int((await asker.ask("large", b"x" * 900_000)).body) == 900_000


async def _running(asker: Asker) -> bool:
    (endpoint,) = msgspec.json.decode((await asker.ask("$SRV.STATS.shop")).body)["endpoints"]
    return bool(endpoint["data"]["in_flight"] == 1)
