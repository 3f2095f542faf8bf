"""An instance that does not answer is noticed each time, and its work is done elsewhere where it may run twice."""

from __future__ import annotations

import asyncio
import time

import pytest
from nats.aio.msg import Msg

from runner.client import App
from runner.errors import Unconfirmed
from runner.requests import peer
from tests.requests.conftest import Here, known
from tests.support.eventually import eventually
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_a_trial_of_an_instance_that_still_stands_still_is_done_elsewhere(
    app: App, instance: Here
) -> None:
    frozen, _ = await instance("a"), await instance("b")
    await known(app, "a", "b")
    frozen.answer, frozen.answers_pings = frozen.silent, False
    async with asyncio.timeout(150):
        while len(frozen.asked) < 3:  # the first, and two trials: one after a second, one two seconds later
            began = time.monotonic()
            assert await app.request("quote.1", None, policy="round_robin", timeout=60.0) == "b"
            assert time.monotonic() - began < 50
            await asyncio.sleep(0.01)


async def test_an_instance_that_stands_still_again_while_it_is_asked_gives_up_what_came_since(
    app: App, instance: Here
) -> None:
    frozen = await instance("a")
    frozen.answer, frozen.answers_pings = frozen.silent, False
    first = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
    await eventually(lambda: app._requester.directory.peers["shop", "a"].frozen)
    second = asyncio.create_task(app.request("quote.2", None, timeout=60.0))
    await eventually(lambda: len(frozen.asked) >= 2)
    await instance("b")
    async with asyncio.timeout(50):
        assert [await first, await second] == ["b", "b"]


@pytest.mark.parametrize("end", ["stands still", "is killed"])
async def test_an_instance_that_fails_while_it_ends_gives_up_what_it_has(
    app: App, instance: Here, end: str
) -> None:
    one = await instance("a")
    one.answer = one.silent
    asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
    await eventually(lambda: bool(one.asked))
    await instance("b")
    await one.tell(gone=True)
    if end == "is killed":
        await one.close()
    else:
        one.answers_pings = False
    async with asyncio.timeout(50):
        assert await asking == "b"


async def test_what_the_only_instance_had_that_was_killed_is_done_by_the_one_that_comes_after_it(
    app: App, instance: Here
) -> None:
    one = await instance("a")
    one.answer = one.silent
    asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
    await eventually(lambda: bool(one.asked))
    await one.close()
    await eventually(lambda: not app._requester.directory.peers)
    await instance("b")
    async with asyncio.timeout(50):
        assert await asking == "b"


async def test_what_may_not_run_twice_waits_for_an_instance_that_ends(app: App, instance: Here) -> None:
    one = await instance("a", subjects={"quote.*": False})
    one.answer = one.silent
    asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
    await eventually(lambda: bool(one.asked))
    other = await instance("b", subjects={"quote.*": False})
    await one.tell(gone=True)
    await eventually(lambda: one.pings > 3)
    await one.asked[0].respond(b'"a"')
    assert await asking == "a"
    assert not other.asked


@pytest.mark.usefixtures("patient")
async def test_a_question_from_before_a_lost_connection_ejects_nobody(
    app: App, instance: Here, nats_server: NatsServer
) -> None:
    one = await instance("a", subjects={"quote.*": False})
    one.answer, one.answers_pings = one.silent, False
    asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
    peers = app._requester.directory.peers
    await eventually(lambda: ("shop", "a") in peers and peers["shop", "a"].unanswered > 0.0)
    nats_server.stop()
    with pytest.raises(Unconfirmed):
        await asking
    assert peers["shop", "a"].unanswered == 0.0
    assert not peers["shop", "a"].frozen


async def test_an_instance_that_only_takes_long_keeps_its_request(
    app: App, instance: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "FROZEN_SECONDS", 1.0)  # longer than a busy machine keeps the server waiting
    one, other = await instance("a"), await instance("b")
    await known(app, "a", "b")
    may_answer = asyncio.Event()

    async def slow(message: Msg) -> None:
        async def later() -> None:
            await may_answer.wait()
            await message.respond(b'"late"')

        waiting.append(asyncio.create_task(later()))

    waiting: list[asyncio.Task[None]] = []
    one.answer = other.answer = slow
    for _ in range(3):  # for a server that stands still for a second no instance answers: once
        one.asked.clear()
        other.asked.clear()
        may_answer.clear()
        pings = one.pings + other.pings
        asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
        await eventually(lambda pings=pings: one.pings + other.pings > pings + 25)  # type: ignore[misc]  # one in 0.05 s
        may_answer.set()
        assert await asking == "late"
        if len(one.asked) + len(other.asked) == 1:
            break
    assert len(one.asked) + len(other.asked) == 1


async def test_an_asker_that_stood_still_itself_takes_nobody_for_frozen(
    app: App, instance: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "FROZEN_SECONDS", 1.5)  # longer than a busy machine keeps the server waiting
    one, other = await instance("a"), await instance("b")
    await known(app, "a", "b")
    one.answer, other.answer = one.silent, other.silent
    peers = app._requester.directory.peers.values()

    def ejections() -> int:
        callees = app._requester.directory.callees.values()
        return sum(each.ejections for callee in callees for each in callee.balancer.backends.values())

    for _ in range(3):  # for a server that stands still for as long no instance answers: once
        one.asked.clear()
        other.asked.clear()
        before, pings = ejections(), one.pings + other.pings
        asking = asyncio.create_task(app.request("quote.1", None, timeout=60.0))
        await eventually(lambda pings=pings: one.pings + other.pings > pings + 1)  # type: ignore[misc]
        for _ in range(2):
            await eventually(lambda: any(each.unanswered for each in peers))
            time.sleep(1.6)  # noqa: ASYNC251  # as a handler does that computes, or a process that gets no CPU
            await eventually(lambda: not any(each.unanswered for each in peers))
        had, ejected = [*one.asked, *other.asked], ejections() - before
        for each in had:
            await each.respond(b'"late"')
        assert await asking == "late"
        if (len(had), ejected) == (1, 0):
            break
    assert (len(had), ejected) == (1, 0)
