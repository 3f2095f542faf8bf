"""The time that an asker gives, and what is left behind by one that gives it wrong, or that does not wait."""

from __future__ import annotations

import asyncio
from math import inf, nan
from typing import Any

import pytest

from runner.client import App
from runner.errors import TooLarge
from runner.requests.outgoingrequest import Try
from tests.requests.conftest import Here, known
from tests.support.eventually import eventually
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.usefixtures("patient")]


def nothing_waits(app: App) -> None:
    """No request, and no try of one, is on any table."""
    requester = app._requester
    assert not requester._waiting
    assert [each.outstanding for each in requester.directory.peers.values()] == [{}]
    for callee in requester.directory.callees.values():
        assert [each.outstanding for each in callee.balancer.backends.values()] == [0]


@pytest.mark.parametrize("timeout", [inf, -inf, nan, 0, 0.0, -1])
async def test_a_timeout_that_is_none_is_refused_and_leaves_nothing(
    app: App, instance: Here, timeout: float
) -> None:
    one = await instance("a")
    await known(app, "a")
    with pytest.raises(ValueError, match=f"timeout={timeout} is not a number of seconds above 0"):
        await app.request("quote.1", None, timeout=timeout)
    assert await app.request("quote.2", None) == "a"
    assert len(one.asked) == 1
    nothing_waits(app)


async def test_the_longest_timeout_is_taken(app: App, instance: Here) -> None:
    await instance("a")
    await known(app, "a")
    assert await app.request("quote.1", None, timeout=1e308) == "a"
    nothing_waits(app)


async def test_a_request_that_cannot_be_written_leaves_the_others_alone(app: App, instance: Here) -> None:
    one = await instance("a")
    await known(app, "a")
    one.answer = one.silent
    other = asyncio.create_task(app.request("quote.1", None, timeout=0.5))
    with pytest.raises(TooLarge):
        await app.request("quote.2", b"x" * 2_000_000)
    with pytest.raises(ValueError, match="bytes"):
        await app.request(f"quote.{'x' * 5_000}", None)
    with pytest.raises(Exception, match=r"quote\.1"):
        await other
    nothing_waits(app)


async def test_who_no_longer_waits_leaves_nothing_to_send_after_an_outage(
    app: App, instance: Here, nats_server: NatsServer
) -> None:
    one = await instance("a")
    assert await app.request("quote.1", None) == "a"
    nats_server.stop()
    requester = app._requester
    await eventually(lambda: not requester._connection.is_connected)
    asking = [asyncio.create_task(app.request("quote.2", None, timeout=60.0)) for _ in range(3)]
    await eventually(lambda: len(requester._postponed) == 3)
    for each in asking[:2]:
        each.cancel()
    await asyncio.wait(asking[:2])
    assert len(requester._postponed) == 1
    nats_server.start()
    assert await asking[2] == "a"
    assert [each.subject[-7:] for each in one.asked] == ["quote.1", "quote.2"]
    assert not requester._postponed


async def test_who_asks_first_and_goes_takes_nobody_along(app: App, instance: Here) -> None:
    await instance("a")
    first = asyncio.create_task(app.request("quote.1", None))
    others = [asyncio.create_task(app.request("quote.2", None)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not app._requester._cut, "it is still being opened"
    first.cancel()
    assert await asyncio.gather(*others) == ["a"] * 3
    assert await app.request("quote.3", None) == "a"
    assert first.cancelled()


async def test_an_error_in_the_end_of_one_request_keeps_no_other_waiting(
    app: App, instance: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = await instance("a", subjects={"quote.*": False})
    await known(app, "a")
    one.answer = one.silent
    tries = app._requester._tries
    end, broken = tries.end, iter([True])

    def breaks_once(*arguments: Any) -> None:
        end(*arguments)
        if next(broken, False):
            raise RuntimeError("no room for a span")

    monkeypatch.setattr(tries, "end", breaks_once)
    async with asyncio.timeout(60):
        asked = [app.request(f"quote.{number}", None, timeout=0.3) for number in range(5)]
        ended = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(each).__name__ for each in ended) == ["RuntimeError"] + ["Unconfirmed"] * 4
    assert "no room for a span" in caplog.text
    nothing_waits(app)


async def test_an_error_in_the_sending_of_one_request_keeps_no_other_from_being_sent(
    app: App, instance: Here, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await instance("a")
    requester = app._requester
    assert await app.request("quote.1", None) == "a"
    nats_server.stop()
    await eventually(lambda: not requester._connection.is_connected)
    asking = [asyncio.create_task(app.request(f"quote.{number}", None, timeout=60.0)) for number in range(3)]
    await eventually(lambda: len(requester._postponed) == 3)
    begin, broken = requester._tries.begin, iter([True])

    def breaks_once(*arguments: Any) -> Try:
        if next(broken, False):
            raise RuntimeError("no such instance")
        return begin(*arguments)

    monkeypatch.setattr(requester._tries, "begin", breaks_once)
    nats_server.start()
    async with asyncio.timeout(60):
        ended = await asyncio.gather(*asking, return_exceptions=True)
    assert [each for each in ended if each != "a"] != []
    assert ended.count("a") == 2
    assert one.asked
