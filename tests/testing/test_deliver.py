"""A message through a function's real binding, without a server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from runner import Context, Reject, RetryPolicy, consume, reply, testing
from runner.errors import UsageError

pytestmark = pytest.mark.anyio


class Order(Struct):
    id: str
    cents: int


@consume(
    "orders.{customer}",
    output="receipts.{customer}",
    retry=RetryPolicy(attempts=3, delay=8, factor=2, jitter="none"),
)
async def charge(order: Order, customer: str, ctx: Context) -> Order:
    if order.cents < 0:
        raise Reject("nothing to charge")
    if order.cents == 0:
        raise OSError("no route")
    await ctx.publish("audit", {"by": customer, "fee": ctx.state})
    return order


@consume("lists", output="parts")
def split(items: bytes) -> Iterator[str]:
    yield from items.decode().split()


async def test_a_success_tells_what_would_be_stored() -> None:
    done = await testing.deliver(charge, "orders.ada", b'{"id": "o-1", "cents": 5}', state=7)
    assert done.outcome == "ack"
    assert done.result == Order("o-1", 5)
    assert [(each.subject, each.body) for each in done.outputs] == [
        ("audit", b'{"by":"ada","fee":7}'),
        ("receipts.ada", b'{"id":"o-1","cents":5}'),
    ]


async def test_a_failure_is_retried_by_the_policy_and_given_up_after_it() -> None:
    first = await testing.deliver(charge, "orders.ada", Order("o-1", 0))
    assert (first.outcome, first.delay, first.outputs) == ("retry", 8, ())
    assert isinstance(first.error, OSError)
    assert (await testing.deliver(charge, "orders.ada", Order("o-1", 0), attempt=2)).delay == 16
    last = await testing.deliver(charge, "orders.ada", Order("o-1", 0), attempt=3)
    assert (last.outcome, last.reason, last.message) == ("dead_letter", "exhausted", "no route")


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b'{"id": "o-1"}', "undecodable"), (b"", "undecodable"), (Order("o-1", -1), "rejected")],
)
async def test_what_no_retry_helps_is_a_dead_letter(body: object, reason: str) -> None:
    done = await testing.deliver(charge, "orders.ada", body)
    assert (done.outcome, done.reason) == ("dead_letter", reason)
    assert done.message


async def test_each_item_of_a_generator_is_an_output() -> None:
    done = await testing.deliver(split, body=b"a b c")
    assert [each.body for each in done.outputs] == [b"a", b"b", b"c"]


async def test_a_subject_that_it_does_not_read_and_what_is_no_function_are_refused() -> None:
    with pytest.raises(UsageError, match="is none of those"):
        await testing.deliver(charge, "payments.ada", Order("o-1", 1))
    with pytest.raises(UsageError, match="which is many subjects"):
        await testing.deliver(charge, body=Order("o-1", 1))
    with pytest.raises(UsageError, match="is not a function of the runner"):
        await testing.deliver(print, "a", b"")


@reply("parts.{customer}", timeout=0.05)
async def parts(order: Order, customer: str) -> None:
    async def broken() -> None:
        await asyncio.sleep(0)
        raise OSError("no route")

    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(broken())
    await asyncio.sleep(60)


async def test_a_timeout_is_one_after_a_group_of_tasks_has_failed_in_the_handler() -> None:
    done = await testing.deliver(parts, "parts.ada", Order("o", 1))
    assert (done.code, done.message) == (408, "no result within 0.05 s")


@reply("quotes.{customer}", timeout=0.05)
async def quote(order: Order, customer: str, ctx: Context) -> Order:
    if customer == "nobody":
        raise Reject("no customer")
    if customer == "slow":
        await asyncio.sleep(60)
    if customer == "broken":
        raise OSError("no route")
    assert (ctx.stream, ctx.sequence, ctx.attempts, ctx.message_id) == ("", 0, 1, "r-1")
    await ctx.publish("quoted.one", order)
    return order


async def test_a_request_is_answered_as_the_runner_would() -> None:
    done = await testing.deliver(quote, "quotes.ada", Order("o-1", 7), headers={"Nats-Msg-Id": "r-1"})
    assert (done.outcome, done.code, done.result) == ("ack", 200, Order("o-1", 7))
    assert msgspec.json.decode(done.reply, type=Order) == Order("o-1", 7)
    assert [each.subject for each in done.outputs] == ["quoted.one"]
    packed = await testing.deliver(
        quote, "quotes.ada", msgspec.msgpack.encode(Order("o-1", 7)),
        headers={"Nats-Msg-Id": "r-1", "Content-Type": "application/msgpack"},
    )  # fmt: skip
    assert msgspec.msgpack.decode(packed.reply, type=Order) == Order("o-1", 7)


@pytest.mark.parametrize(
    ("customer", "body", "code", "message"),
    [
        ("nobody", Order("o", 1), 422, "no customer"),
        ("slow", Order("o", 1), 408, "no result within 0.05 s"),
        ("broken", Order("o", 1), 500, "OSError: no route"),
        ("ada", b"no json", 400, "JSON is malformed: invalid character (byte 4)"),
    ],
)
async def test_a_request_that_fails_has_the_code_of_its_answer(
    customer: str, body: Any, code: int, message: str
) -> None:
    done = await testing.deliver(quote, f"quotes.{customer}", body)
    assert (done.outcome, done.code, done.message, done.reply, done.outputs) == (
        "error",
        code,
        message,
        b"",
        (),
    )
