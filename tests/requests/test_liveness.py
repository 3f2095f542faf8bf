"""An instance that does not answer is noticed each time, and its work is done elsewhere where it may run twice."""

from __future__ import annotations

import asyncio
import time

import pytest

from runner.client import App
from tests.requests.conftest import Here, known
from tests.support.eventually import eventually

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_a_trial_of_an_instance_that_still_stands_still_is_done_elsewhere(
    app: App, instance: Here
) -> None:
    frozen, _ = await instance("a"), await instance("b")
    await known(app, "a", "b")
    frozen.answer, frozen.answers_pings = frozen.silent, False
    async with asyncio.timeout(20):
        while len(frozen.asked) < 3:  # the first, and two trials: one after a second, one two seconds later
            began = time.monotonic()
            assert await app.request("quote.1", None, policy="round_robin", timeout=10.0) == "b"
            assert time.monotonic() - began < 2
            await asyncio.sleep(0.01)


async def test_an_instance_that_stands_still_again_while_it_is_asked_gives_up_what_came_since(
    app: App, instance: Here
) -> None:
    frozen = await instance("a")
    frozen.answer, frozen.answers_pings = frozen.silent, False
    first = asyncio.create_task(app.request("quote.1", None, timeout=10.0))
    await eventually(lambda: app._requester.directory.peers["shop", "a"].frozen)
    second = asyncio.create_task(app.request("quote.2", None, timeout=10.0))
    await eventually(lambda: len(frozen.asked) == 2)
    await instance("b")
    async with asyncio.timeout(3):
        assert [await first, await second] == ["b", "b"]
