"""A message of a batch is handled whatever becomes of the task that collects the batch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner import Context, PartialFailure, RetryPolicy, consume
from runner.pipeline import batch
from runner.testing.plugin import Jetrunner
from tests.support.eventually import eventually

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@consume("rows.{table}", batch=3, linger=60.0, output="stored.{table}")
async def store(rows: list[int]) -> list[int]:
    return rows


def slots() -> list[asyncio.Task[Any]]:
    """Those that wait for something."""
    tasks = [each for each in asyncio.all_tasks() if each.get_name() == "store slot"]
    return [each for each in tasks if getattr(each.get_coro(), "cr_await", None) is not None]


async def test_messages_come_again_where_the_task_that_waits_for_more_of_them_is_cancelled(
    jetrunner: Jetrunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "REPEAT_SECONDS", 0.2)
    async with jetrunner(store) as app:
        await app.publish("rows.a", 7)
        (slot,) = await eventually(slots)
        slot.cancel()
        await app.settled()
        assert [each.decode() for each in await app.outputs("stored.a")] == [7]


mixed: list[list[str]] = []


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_message_that_comes_again_into_the_window_of_new_ones_runs_at_once_and_the_window_goes_on(
    jetrunner: Jetrunner, concurrency: int
) -> None:
    mixed.clear()
    binds = consume(
        "rows.{table}", batch=3, linger=20.0, concurrency=concurrency, retry=RetryPolicy.fixed(1.0)
    )

    @binds
    async def store(rows: list[str], ctx: Context) -> None:
        mixed.append(rows)
        if ctx.attempt == 1 and "a" in rows:
            raise PartialFailure({rows.index("a"): OSError("not yet")})

    async with jetrunner(store, retry_scale=1.0) as app:
        for row in "abc":
            await app.publish("rows.a", row)
        await eventually(lambda: mixed)
        await app.publish("rows.a", "d")  # which begins a window, before the first one comes again
        await eventually(lambda: ["a"] in mixed)
        for row in "ef":
            await app.publish("rows.a", row)
        await app.settled()
    assert mixed == [["a", "b", "c"], ["a"], ["d", "e", "f"]]
