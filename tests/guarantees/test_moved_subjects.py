"""Subjects that are moved to another stream under a running function: its outputs follow, each once, and none waits for ever."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.server import NatsServer
from tests.support.shop import MINUTES, Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FOUR = """
    @consume("orders.{id}")
    async def charge(order: Order, ctx: Context) -> None:
        note("run", id=order.id)
        for number, subject in enumerate(("paid", "audit", "paid", "audit")):
            ctx.publish(f"{subject}.{order.id}", {"number": number})
"""
ORDERED = """
    @consume("orders.{id}", output="paid.{id}", ordered_by="id", concurrency=16)
    async def charge(order: Order) -> Order:
        note("run", id=order.id)
        return order
"""
FENCES = "_jetrunner.{}.>"


async def give(shop: Shop, subject: str, before: str, after: str, **fields: Any) -> None:
    """Move a subject from one stream to another, which is made with `fields` where there is none."""
    config = (await shop.js.stream(before))["config"]
    left = [each for each in config["subjects"] if each != subject] or ["nothing.here"]
    await shop.js.api(f"STREAM.UPDATE.{before}", config | {"subjects": left})
    if after in await shop.js.streams():
        config = (await shop.js.stream(after))["config"]
        subjects = {"subjects": [*config["subjects"], subject]}
        await shop.js.api(f"STREAM.UPDATE.{after}", config | subjects | fields)
    else:
        window = {"duplicate_window": 15 * MINUTES}
        await shop.js.create(after, [subject, FENCES.format(after)], **(window | fields))


async def numbers(shop: Shop, subject: str) -> list[int]:
    """What stands on a subject, in whatever stream."""
    found = []
    for stream in await shop.js.streams():
        found += [each.json()["number"] for each in await shop.js.messages(stream, subject)]
    return found


async def all_four(shop: Shop, order: int) -> bool:
    return (await numbers(shop, f"paid.{order}"), await numbers(shop, f"audit.{order}")) == ([0, 2], [1, 3])


@pytest.mark.parametrize("moved", ["paid.>", "audit.>"])
async def test_outputs_that_went_together_are_parted_with_their_streams(shop: Shop, moved: str) -> None:
    await shop.open(FOUR)
    await give(shop, "audit.>", "AUDIT", "PAID")
    await shop.running("charge")
    await shop.order(1)
    await eventually(partial(all_four, shop, 1))
    await give(shop, moved, "PAID", "AUDIT")
    await shop.order(2)
    await shop.settled("charge")
    assert await all_four(shop, 2)
    assert len(shop.notes("run")) == 2


async def test_outputs_that_went_apart_go_together_once_their_streams_are_one(shop: Shop) -> None:
    await shop.open(FOUR)
    await shop.running("charge")
    await shop.order(1)
    await eventually(partial(all_four, shop, 1))
    await give(shop, "audit.>", "AUDIT", "PAID")
    await shop.order(2, 3, 4)
    await shop.settled("charge")
    assert [await all_four(shop, order) for order in (2, 3, 4)] == [True] * 3
    assert len(shop.notes("run")) == 4


async def test_a_stream_that_allows_no_batches_is_believed_no_longer_than_it_does(shop: Shop) -> None:
    await shop.open(FOUR.replace('{id}"', '{id}", retry=RetryPolicy.fixed(0.2, attempts=50)'))
    process = await shop.running("charge")
    await give(shop, "audit.>", "AUDIT", "OTHER")
    await shop.order(1)
    await eventually(lambda: shop.notes("run")[1:])
    config = (await shop.js.stream("OTHER"))["config"]
    await shop.js.api("STREAM.UPDATE.OTHER", config | {"allow_atomic": True})
    await shop.settled("charge")
    assert await all_four(shop, 1)
    assert await shop.dead() == []
    assert process.running


@pytest.mark.parametrize("fenced", [True, False], ids=["fenced", "unfenced"])
async def test_an_ordered_functions_outputs_follow_their_subject_and_it_goes_on(
    shop: Shop, fenced: bool
) -> None:
    await shop.open(ORDERED)
    paid = (await shop.js.stream("PAID"))["config"]
    await shop.js.api("STREAM.UPDATE.PAID", paid | {"subjects": ["paid.>", FENCES.format("PAID")]})
    process = shop.run()
    await shop.order(1, 2)
    await eventually(lambda: stored(shop, "PAID", 2))
    await give(shop, "paid.>", "PAID", "OTHER", allow_atomic=fenced)
    await shop.order(*range(3, 40))
    await eventually(lambda: stored(shop, "OTHER", 37))
    await eventually(lambda: shop.js.settled("ORDERS", "shop-charge-0-0"))
    assert len(shop.notes("run")) == 39
    outputs = await shop.js.messages("OTHER", "paid.>")
    assert sorted(each.json()["id"] for each in outputs) == list(range(3, 40))
    assert process.running


@pytest.mark.parametrize("then", ["the connection is lost", "another instance takes over"])
async def test_where_the_stream_is_deleted_whose_subject_was_moved_no_fence_waits_for_it(
    shop: Shop, nats_server: NatsServer, then: str
) -> None:
    await shop.open(ORDERED)
    paid = (await shop.js.stream("PAID"))["config"]
    await shop.js.api("STREAM.UPDATE.PAID", paid | {"subjects": ["paid.>", FENCES.format("PAID")]})
    first, second = shop.run(), None
    await first.seen("owns 1 of 1 shard")
    if then == "another instance takes over":
        second = shop.run()
        await second.seen("ready: ")  # it has seen PAID
    await shop.order(1, 2)
    await eventually(lambda: stored(shop, "PAID", 2))
    # Else both run again, and are stored in OTHER, too.
    await eventually(lambda: shop.js.settled("ORDERS", "shop-charge-0-0"))
    await shop.js.api("STREAM.DELETE.PAID")
    await shop.js.create("OTHER", ["paid.>", FENCES.format("OTHER")], duplicate_window=15 * MINUTES)
    if second is not None:
        first.kill()
    else:
        await asyncio.to_thread(nats_server.restart)
    await shop.order(*range(3, 10))
    await eventually(lambda: stored(shop, "OTHER", 7))
    await eventually(lambda: shop.js.settled("ORDERS", "shop-charge-0-0"))
    outputs = await shop.js.messages("OTHER", "paid.>")
    assert all("Nats-Expected-Last-Subject-Sequence" in each.headers for each in outputs)


async def stored(shop: Shop, stream: str, count: int) -> bool:
    return len(await shop.js.messages(stream, "paid.>")) == count
