"""What `PartialFailure` names must be in the batch; where it is not, the error says so, and no message is lost."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.json import decode

from runner import PartialFailure, Reject, RetryPolicy, consume, testing
from runner.testing.plugin import Jetrunner

pytestmark = [pytest.mark.server, pytest.mark.anyio]

TWICE = RetryPolicy(attempts=2, delay=0.0)
SHARDED: dict[str, dict[str, Any]] = {
    "ROWS": {"subjects": ["rows.{table}"], "shards": {"count": 1, "by": ["table"]}}
}
calls: list[list[int]] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


def over_the_end(rows: list[int]) -> None:
    """As a handler that counts from 1 does."""
    calls.append(rows)
    if wrong := {at: Reject("odd") for at, row in enumerate(rows, 1) if row % 2}:
        raise PartialFailure(wrong)


@consume("rows.{table}", batch=3, linger=20.0, retry=TWICE)
async def plain(rows: list[int]) -> None:
    over_the_end(rows)


@consume("rows.{table}", batch=3, linger=20.0, retry=TWICE, ordered_by="table")
async def ordered(rows: list[int]) -> None:
    over_the_end(rows)


@consume("rows.{table}", batch=3, linger=20.0, retry=TWICE, ordered_by="table", batch_by="shard")
def by_shard(rows: list[int]) -> None:
    over_the_end(rows)


@pytest.mark.parametrize("function", [plain, ordered, by_shard])
async def test_an_index_over_the_end_is_told_with_its_line_and_no_message_is_lost(
    jetrunner: Jetrunner, function: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with jetrunner(function, streams=SHARDED) as app:
        for row in (2, 4, 5):
            await app.publish("rows.a", row)
        await app.settled()
        (letter,) = await app.dead_letters()
    assert calls[0] == [2, 4, 5]
    assert (decode(letter.body), letter.reason, letter.error) == (5, "exhausted", "IndexError")
    assert letter.message == "PartialFailure names index 1, and the batch has 1 message: index 0 alone"
    assert "test_batches_partial.py" in letter.traceback
    assert "raise PartialFailure(wrong)" in letter.traceback
    assert "test_batches_partial.py" in caplog.text


async def test_an_index_over_the_end_is_told_without_a_server() -> None:
    done = await testing.deliver(plain, "rows.a", 5)
    assert done.outcome == "retry"
    assert repr(done.error) == (
        "IndexError('PartialFailure names index 1, and the batch has 1 message: index 0 alone')"
    )
