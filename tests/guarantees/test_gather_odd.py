"""A part is taken in whatever becomes of the task that takes it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner import gather
from runner.pipeline import gathering
from runner.testing.plugin import Jetrunner
from tests.support.eventually import eventually

pytestmark = [pytest.mark.server, pytest.mark.anyio]

PART = {"Jetrunner-Batch": "0" * 32, "Jetrunner-Index": "0", "Jetrunner-Count": "1"}


@gather("priced.{name}", output="totals.{name}")
async def total(lines: list[int]) -> int:
    return sum(lines)


def slots() -> list[asyncio.Task[Any]]:
    """Those that wait for something."""
    tasks = [each for each in asyncio.all_tasks() if each.get_name() == "total slot"]
    return [each for each in tasks if getattr(each.get_coro(), "cr_await", None) is not None]


async def test_parts_come_again_where_the_task_that_waits_for_more_of_them_is_cancelled(
    jetrunner: Jetrunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "LINGER_SECONDS", 60.0)
    async with jetrunner(total) as app:
        await app.publish("priced.1", 7, headers=PART)
        (slot,) = await eventually(slots)
        monkeypatch.undo()
        slot.cancel()
        await app.settled()
        assert [each.decode() for each in await app.outputs("totals.1")] == [7]
