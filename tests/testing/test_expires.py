"""The time of a gather in tests: a part that never comes is not waited for as long as in production."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from runner import Context, consume, gather
from runner.testing.plugin import Jetrunner

pytestmark = pytest.mark.anyio


@consume("orders.{id}", output="lines.{id}")
async def split(order: dict[str, list[int]]) -> AsyncIterator[int]:
    for line in order["lines"]:
        yield line


@consume("lines.{id}", output="prices.{id}")
async def price(line: int) -> int | None:
    return None if line < 0 else line * 2


@gather("prices.{id}", output="totals.{id}")
async def total(prices: list[int], ctx: Context) -> list[int]:
    return [sum(prices), *ctx.missing]


async def test_an_hour_without_a_part_takes_a_second(jetrunner: Jetrunner) -> None:
    async with jetrunner(split, price, total, expires_scale=0) as app:
        for _ in range(3):  # whoever stands still for that second lacks the others, too, and not three times
            await app.publish("orders.a", {"lines": [1, -2, 3]})
            await app.settled()
            if (last := (await app.outputs("totals.a"))[-1].decode()) == [8, 1]:
                break
        assert last == [8, 1]
