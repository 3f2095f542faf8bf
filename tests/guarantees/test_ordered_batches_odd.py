"""Ordered batches under odd handlers and types: no message is left behind in its lane."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from msgspec import Struct

from runner import consume
from runner.pipeline import orderedbatch
from runner.testing.plugin import Jetrunner

pytestmark = [pytest.mark.server, pytest.mark.anyio]

STREAMS: dict[str, dict[str, Any]] = {
    "ROWS": {"subjects": ["rows.{table}"], "shards": {"count": 1, "by": ["table"]}},
    "STORED": {"subjects": ["stored.*"]},
}
decoded: Counter[int] = Counter()
calls: list[list[int]] = []


@pytest.fixture(autouse=True)
def nothing_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded.clear()
    calls.clear()
    monkeypatch.setattr(orderedbatch, "REPEAT_SECONDS", 0.2)


class Moody(Struct):
    """Can be decoded twice, as by a check that depends on the time of day."""

    n: int

    def __post_init__(self) -> None:
        decoded[self.n] += 1
        if decoded[self.n] > 2:
            raise ValueError("not now")


@consume(
    "rows.{table}", ordered_by="table", batch=3, batch_by="shard", linger=30.0, output="stored.{table}"
)  # fmt: skip
async def store(rows: list[Moody]) -> list[int]:
    calls.append([row.n for row in rows])
    return [row.n for row in rows]


@consume(
    "rows.{table}", ordered_by="table", batch=3, batch_by="shard", linger=30.0, output="stored.{table}"
)  # fmt: skip
async def cancels(rows: list[dict[str, int]]) -> list[int]:
    """Its task is cancelled right after it has ended, once."""
    calls.append([row["n"] for row in rows])
    if len(calls) == 1:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
    return [row["n"] for row in rows]


@pytest.mark.parametrize("function", [store, cancels])
async def test_a_batch_with_a_message_that_cannot_be_decoded_settles_all_of_its_messages(
    jetrunner: Jetrunner, function: Any
) -> None:
    async with jetrunner(function, streams=STREAMS) as app:
        await app.publish("rows.a", {"n": 1})
        await app.publish("rows.b", {"n": 2})
        await app.publish("rows.c", b"odd")
        await app.settled()
        stored = sorted(each.decode() for each in await app.outputs("stored.*"))
        assert (calls[0], stored) == ([1, 2], [1, 2])
        assert [each.reason for each in await app.dead_letters()] == ["undecodable"]
