"""Functions of a user's, tested on a real server by `runner.testing.run` and the fixture `jetrunner`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import pytest
from msgspec import Struct

from runner import Context, Reject, Retry, RetryPolicy, consume, lifespan
from runner.errors import UsageError
from runner.testing import Unsettled, run
from runner.testing.plugin import Jetrunner
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream

pytestmark = pytest.mark.anyio


class Order(Struct):
    id: str
    cents: int


class Receipt(Struct):
    id: str
    attempt: int


@lifespan
async def bank() -> AsyncGenerator[dict[str, int], None]:
    yield {"fee": 7}


@consume(
    "orders.{customer}", output="receipts.{customer}", retry=RetryPolicy(attempts=3, delay=60, jitter="none")
)
async def charge(order: Order, customer: str, ctx: Context) -> Receipt:
    if order.cents <= 0:
        raise Reject("nothing to charge")
    if customer == "late" and ctx.attempt < 3:
        raise Retry("the bank is closed", after=3600) if ctx.attempt == 1 else OSError("no route")
    if customer == "never":
        raise OSError("no route")
    return Receipt(order.id, ctx.attempt)


@consume("receipts.{customer}", ordered_by="customer")
async def post(receipt: Receipt, customer: str, ctx: Context) -> None:
    await ctx.publish(f"posted.{customer}", {"id": receipt.id, "fee": (ctx.state or {}).get("fee")})


@consume("posted.*")
async def count(body: dict[str, Any]) -> None:
    """The end of the way."""


async def test_a_message_goes_its_whole_way(jetrunner: Jetrunner) -> None:
    async with jetrunner(charge, post, count, bank) as app:
        for number in range(20):
            await app.publish(f"orders.c{number % 3}", Order(f"o-{number}", 100))
        await app.settled()
        assert len(await app.outputs("receipts.*")) == 20
        assert [each.decode(Receipt).id for each in await app.outputs("receipts.c0")] == [
            f"o-{n}" for n in range(0, 20, 3)
        ]
        assert {each.decode()["fee"] for each in await app.outputs("posted.>")} == {7}
        assert await app.dead_letters() == []


async def test_retries_of_hours_take_no_time(jetrunner: Jetrunner) -> None:
    began = time.monotonic()
    async with jetrunner(charge, retry_scale=0.0001) as app:
        await app.publish("orders.late", Order("o-1", 100))
        await app.settled()
        assert [each.decode(Receipt) for each in await app.outputs("receipts.late")] == [Receipt("o-1", 3)]
    assert time.monotonic() - began < 25


async def test_what_is_given_up_is_told_with_its_reason(jetrunner: Jetrunner) -> None:
    async with jetrunner(charge, retry_scale=0) as app:
        await app.publish("orders.never", Order("o-1", 100))
        await app.publish("orders.ada", Order("o-2", 0))
        await app.publish("orders.ada", b"{")
        await app.settled()
        letters = await app.dead_letters("charge")
        assert sorted((each.reason, each.subject, each.attempts) for each in letters) == [
            ("exhausted", "orders.never", 3),
            ("rejected", "orders.ada", 1),
            ("undecodable", "orders.ada", 1),
        ]
        assert await app.outputs("receipts.>") == []


async def test_what_does_not_settle_is_listed(jetrunner: Jetrunner) -> None:
    async with jetrunner(charge, retry_scale=1) as app:
        await app.publish("orders.never", Order("o-1", 100))
        await app.publish("orders.ada", Order("o-2", 100), delay=3600)
        async with RawJetStream.connect(app.url) as raw:
            await eventually(partial(in_work, raw))
        with pytest.raises(Unsettled) as caught:
            await app.settled(within=2)
    assert "still open after 2 s:" in str(caught.value)
    assert "charge: 0 waiting, 1 in work or waiting for a retry, in TEST" in str(caught.value)
    assert "1 delayed" in str(caught.value)


async def in_work(raw: RawJetStream) -> bool:
    return bool((await raw.consumer("TEST", "test-charge"))["num_ack_pending"])


@pytest.mark.parametrize("turn", [1, 2])
async def test_a_test_finds_nothing_of_another(jetrunner: Jetrunner, turn: int) -> None:
    async with jetrunner(charge) as app:
        assert await app.outputs("receipts.>") == []
        await app.publish("orders.ada", Order("o-1", 100), headers={"Nats-Msg-Id": "the-same"})
        await app.settled()
        assert len(await app.outputs("receipts.>")) == 1, "its id was not known from the other test"


async def test_streams_may_be_given(jetrunner: Jetrunner) -> None:
    streams: dict[str, Any] = {
        "ORDERS": ["orders.*"],
        "RECEIPTS": {"subjects": ["receipts.{c}"], "shards": {"count": 4, "by": ["c"]}},
        "POSTED": ["posted.*"],
    }
    async with jetrunner(charge, post, streams=streams) as app:
        for number in range(8):
            await app.publish(f"orders.c{number}", Order(f"o-{number}", 100))
        await app.settled()
        assert {each.stream for each in await app.outputs("posted.*")} == {"POSTED"}
        assert len(await app.outputs("posted.*")) == 8


async def test_functions_run_on_a_server_of_their_own() -> None:
    async with run(charge) as app:
        await app.publish("orders.ada", Order("o-1", 100))
        await app.settled()
        assert len(await app.outputs("receipts.ada")) == 1


async def test_a_hundred_tests_take_seconds(jetrunner: Jetrunner) -> None:
    seconds: list[float] = []
    for _ in range(5):
        began = time.process_time()
        async with jetrunner(charge) as app:
            await app.publish("orders.ada", Order("o-1", 100))
            await app.settled()
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.2, "of CPU: other tests share the machine"


async def test_what_a_sharded_stream_holds_is_told_by_the_subject_it_was_published_to(
    jetrunner: Jetrunner,
) -> None:
    streams: dict[str, Any] = {
        "ORDERS": ["orders.*"],
        "RECEIPTS": {"subjects": ["receipts.{c}"], "shards": {"count": 4, "by": ["c"]}},
    }
    async with jetrunner(charge, streams=streams) as app:
        for number in range(8):
            await app.publish(f"orders.c{number}", Order(f"o-{number}", 100))
        await app.settled()
        found = await app.outputs("receipts.*")
        assert sorted(each.subject for each in found) == [f"receipts.c{number}" for number in range(8)]
        assert [each.stream for each in await app.outputs("receipts.c3")] == ["RECEIPTS"]


async def test_dead_letters_of_a_function_that_does_not_run_are_refused(jetrunner: Jetrunner) -> None:
    async with jetrunner(count) as app:
        assert await app.dead_letters("count") == []
        with pytest.raises(UsageError, match="no function 'coutn' runs here"):
            await app.dead_letters("coutn")
