"""What is awaited together ends together, and leaves the task that waited as it was."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from runner.jetstream.concurrent import gather, map_concurrently

pytestmark = pytest.mark.anyio


async def fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("one of them")


async def test_results_come_in_the_order_of_what_was_asked() -> None:
    async def later(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await gather(later(3), later(1), later(2)) == (3, 1, 2)
    assert await map_concurrently(later, range(150)) == list(range(150))
    assert await gather() == ()


async def test_the_others_have_ended_when_the_error_of_one_is_raised() -> None:
    ended = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(ValueError, match="one of them"):
        await gather(endless(), fail(), endless())
    assert ended == [True, True]


async def test_a_scope_around_one_that_failed_keeps_its_own_cancellation() -> None:
    task = asyncio.current_task()
    assert task is not None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        with pytest.raises(ValueError, match="one of them"):
            await gather(fail(), anyio.sleep_forever())
        assert task.cancelling() == 0
        tasks.cancel_scope.cancel()
