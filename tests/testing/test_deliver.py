"""A message through a function's real binding, without a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import Struct

from runner import Context, Reject, RetryPolicy, consume, testing
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
    with pytest.raises(UsageError, match="is no function of the runner"):
        await testing.deliver(print, "a", b"")
