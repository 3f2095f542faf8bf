"""The public API as users write it; mypy --strict reads this file, nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, assert_type

from msgspec import Struct

import runner
from runner import (
    Context,
    PartialFailure,
    Reject,
    Retry,
    RetryPolicy,
    around,
    consume,
    lifespan,
    reply,
    testing,
)


class Order(Struct):
    id: str
    cents: int


class Quote(Struct):
    price: int


@consume(
    "orders.{customer}.created",
    name="charge",
    output="payments.{customer}.charged",
    retry=RetryPolicy(attempts=8, delay=2, retry_on=(OSError,), reject_on=(ValueError,)),
    concurrency=8,
    timeout=5,
    max_age=3600,
    deliver="new",
    stream="ORDERS",
    durable="charge",
)
async def charge(order: Order, customer: str, ctx: Context) -> Order:
    if order.cents <= 0:
        raise Reject("nothing to charge")
    if ctx.attempt < 2:
        raise Retry("bank is closed", after=60.0)
    await ctx.publish("audit", order, headers={"Kind": "charge"}, delay=60)
    await ctx.publish("audit", order, at=datetime.now(UTC))
    quote = await ctx.request("quotes", order, returns=Quote, timeout=1.0)
    assert_type(quote, Quote)
    assert_type(await ctx.request("quotes", order), Any)
    assert_type(ctx.timestamp, datetime)
    assert_type(ctx.deadline, float)
    assert_type(ctx.key, str | None)
    ctx.log.info("charged %s", customer)
    return order


@reply("quotes.{customer}", name="quote", concurrency=8, timeout=2, idempotent=True)
async def answer(order: Order, customer: str, ctx: Context) -> Quote:
    assert_type(ctx.message_id, str)
    return Quote(order.cents)


@reply("stock")
def stock() -> int:
    return 7


assert_type(stock(), int)


@consume("orders.>", retry=RetryPolicy.sequence(1, 5, 30))
def count(body: bytes) -> None:
    raise PartialFailure({0: ValueError(body)})


@consume("orders.*", output="lines", retry=RetryPolicy.fixed(1.0, attempts=3))
def split(order: Order) -> Iterator[str]:
    yield order.id


@consume("orders.*", output="lines", retry=RetryPolicy.random(1.0, 2.0, attempts=3))
async def split_async(order: Order) -> AsyncIterator[str]:
    yield order.id


class Shop(Struct):
    bank: str


@lifespan
async def state() -> AsyncIterator[Shop]:
    yield Shop("open")


@consume("banks.*")
async def look(body: bytes, ctx: Context[Shop]) -> str:
    assert_type(ctx.state, Shop)
    return ctx.state.bank


@consume("banks.*")
async def look_untyped(body: bytes, ctx: Context) -> None:
    assert_type(ctx.state, Any)


@around
async def timed(ctx: Context, call: Callable[[], Awaitable[Any]]) -> None:
    assert_type(await call(), Any)
    await ctx.publish("audit", b"x")


@around(scope="module")
async def doubled(ctx: Context[Shop], call: Callable[[], Awaitable[int]]) -> int:
    assert_type(ctx.state, Shop)
    return 2 * await call()


@around()
async def passed_on(ctx: Context, call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


async def hooks_keep_their_type() -> None:
    async def call() -> int:
        return 1

    assert_type(await doubled(testing.context(state=Shop("open")), call), int)
    assert_type(await passed_on(testing.context(), call), Any)
    await testing.deliver(charge, "orders.c1.created", b"{}", around=[timed, doubled])
    async with testing.run(charge, timed, around=(doubled,)) as app:
        await app.settled()


async def the_decorator_keeps_the_type() -> None:
    ctx = testing.context(attempt=2, subject="orders.c1.created", replies={"quotes": Quote(1)})
    assert_type(ctx, Context)
    assert_type(await charge(Order("o1", 1), "c1", ctx), Order)
    assert_type(await charge(Order("o1", 1), customer="c1", ctx=runner.testing.context()), Order)
    assert_type(list(split(Order("o1", 1))), list[str])
    assert_type(ctx.staged[0].body, bytes)


async def the_state_has_the_type_that_the_annotation_says() -> None:
    ctx = testing.context(state=Shop("closed"))
    assert_type(ctx, Context[Shop])
    assert_type(await look(b"", ctx), str)
    await look(b"", testing.context())
    await look_untyped(b"", ctx)


async def outside_of_functions() -> None:
    async with runner.connect() as app:
        assert_type((await app.publish("audit", b"x", delay=1.5)).seq, int)
        assert_type(await app.request("quotes", b"x", returns=Quote), Quote)
        assert_type(await app.request("quotes", b"x"), Any)


def outside_of_loops() -> None:
    with runner.connect_sync(project=".") as app:
        assert_type(app.publish("audit", b"x", at=datetime.now(UTC)).seq, int)
        assert_type(app.request("quotes", b"x", returns=Quote), Quote)
        assert_type(app.request("quotes", b"x"), Any)
    assert_type(runner.connect_sync().open().publish("audit", b"x").seq, int)
