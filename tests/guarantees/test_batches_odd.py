"""A message of a batch is handled whatever becomes of the task that collects the batch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner import consume
from runner.pipeline import batch
from runner.testing.plugin import Jetrunner
from tests.support.eventually import eventually

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@consume("rows.{table}", batch=3, linger=2.0, output="stored.{table}")
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
