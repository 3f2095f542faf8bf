"""Handlers of batches in tests without a server: a context with messages, and many bodies delivered together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from runner import Context, PartialFailure, Reject, Retry, RetryPolicy, around, consume, testing
from runner.errors import UsageError

pytestmark = pytest.mark.anyio

FIXED = RetryPolicy.fixed(7.0, attempts=3)
calls: list[list[int]] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


async def work(rows: list[int], table: list[str], ctx: Context) -> list[int | None]:
    calls.append(rows)
    assert len(rows) == len(table) == len(ctx.messages)
    for each, row in zip(ctx.messages, rows, strict=True):
        if row > 9:
            await each.publish(f"large.{each.params['table']}", row)
    if 6 in rows:
        raise OSError("six breaks the insert")
    if 7 in rows:
        raise Retry("the table is locked")
    if odd := {at: Reject(f"{row} is odd") for at, row in enumerate(rows) if row % 2}:
        raise PartialFailure(odd)
    return [None if row == 0 else row for row in rows]


@consume("rows.{table}", batch=5, output="stored.{table}", retry=FIXED)
async def store(rows: list[int], table: list[str], ctx: Context) -> list[int | None]:
    return await work(rows, table, ctx)


@consume("rows.{table}", batch=5, output="stored.{table}", retry=FIXED)
async def iterate(rows: list[int], table: list[str], ctx: Context) -> AsyncIterator[int | None]:
    for each in await work(rows, table, ctx):
        yield each


@consume("rows.{table}", batch=5, retry=FIXED, ordered_by="table", batch_by="shard")
async def by_shard(rows: list[int], table: list[str], ctx: Context) -> None:
    await work(rows, table, ctx)


@consume("rows.{table}", batch=5, retry=FIXED, ordered_by="table")
async def by_key(rows: list[int], table: list[str], ctx: Context) -> None:
    await work(rows, table, ctx)


@around
async def doubled(ctx: Context, call: Any) -> Any:
    return [each and each * 2 for each in await call()]


def outcomes(done: testing.Delivered) -> list[str]:
    return [each.outcome for each in done.messages]


async def test_a_handler_gets_a_context_for_each_message() -> None:
    messages = [
        testing.context(subject=f"rows.{name}", params={"table": name}, sequence=at, state=3)
        for at, name in enumerate("ab", 1)
    ]
    ctx = testing.context(messages=messages)
    assert await store([20, 4], ["a", "b"], ctx) == [20, 4]
    assert [[(each.subject, each.body) for each in one.staged] for one in messages] == [
        [("large.a", b"20")],
        [],
    ]
    assert (ctx.subject, ctx.message_id, ctx.state) == ("rows.a", "TEST:1", 3)
    with pytest.raises(RuntimeError, match=r"a batch publishes by its messages"):
        await ctx.publish("large.a", 1)


def test_what_the_messages_tell_is_not_given_beside_them() -> None:
    with pytest.raises(ValueError, match="attempt= is told by the contexts of the messages"):
        testing.context(messages=[testing.context()], attempt=2)


@pytest.mark.parametrize("function", [store, iterate])
async def test_bodies_are_called_together_and_each_has_its_outputs(function: Any) -> None:
    done = await testing.deliver(function, ["rows.a", "rows.b", "rows.c"], [0, b"10", 4])
    assert calls == [[0, 10, 4]]
    assert (done.outcome, outcomes(done), done.result) == ("ack", ["ack"] * 3, [None, 10, 4])
    assert [[(each.subject, each.body) for each in one.outputs] for one in done.messages] == [
        [],
        [("large.b", b"10"), ("stored.b", b"10")],
        [("stored.c", b"4")],
    ]
    assert len(done.outputs) == 3


async def test_a_partial_failure_ends_those_that_it_names_and_nothing_is_returned() -> None:
    done = await testing.deliver(store, "rows.a", [2, 3, 12])
    assert (done.outcome, outcomes(done)) == ("dead_letter", ["ack", "dead_letter", "ack"])
    assert done.messages[1].message == "3 is odd"
    assert [(each.subject, each.body) for each in done.outputs] == [("large.a", b"12")]


async def test_what_fails_is_alone_in_the_end_and_what_cannot_be_decoded_is_given_up() -> None:
    done = await testing.deliver(store, "rows.a", [2, b"two", 6, 4])
    assert outcomes(done) == ["ack", "dead_letter", "retry", "ack"]
    assert (done.messages[1].reason, done.messages[2].delay) == ("undecodable", 7.0)
    assert calls == [[2, 6, 4], [2], [6, 4], [6], [4]]


async def test_a_retry_speaks_of_all_of_them() -> None:
    assert outcomes(await testing.deliver(store, "rows.a", [2, 7, 4])) == ["retry"] * 3


async def test_in_order_those_behind_a_failed_one_of_their_key_wait() -> None:
    done = await testing.deliver(by_shard, ["rows.a", "rows.b", "rows.a", "rows.b"], [1, 2, 4, 8])
    assert outcomes(done) == ["dead_letter", "ack", "waits", "ack"]
    calls.clear()
    done = await testing.deliver(by_shard, ["rows.a", "rows.b", "rows.a", "rows.b"], [6, 2, 4, 8])
    assert outcomes(done) == ["retry", "ack", "waits", "ack"]
    assert calls == [[6, 2, 4, 8], [6, 2], [6], [2], [8]]


async def test_a_batch_of_a_key_has_no_other() -> None:
    await testing.deliver(by_key, ["rows.a", "rows.b", "rows.a"], [2, 4, 8])
    assert calls == [[2, 8], [4]]


async def test_hooks_run_around_the_batch() -> None:
    done = await testing.deliver(store, "rows.a", [2, 4], around=[doubled])
    assert [each.body for each in done.outputs] == [b"4", b"8"]


async def test_what_is_never_called_together_is_refused() -> None:
    with pytest.raises(UsageError, match="a message that comes again is called alone"):
        await testing.deliver(store, "rows.a", [2, 4], attempt=2)
    with pytest.raises(UsageError, match="called with 1 to 5 messages, and these are 6"):
        await testing.deliver(store, "rows.a", [2] * 6)
    with pytest.raises(UsageError, match="1 subjects for 2 bodies"):
        await testing.deliver(store, ["rows.a"], [2, 4])
    with pytest.raises(UsageError, match="several subjects"):
        await testing.deliver(store, ["rows.a"], 2)
