"""Outputs that are delayed, or carry their input's headers on, stand once like all others."""

from __future__ import annotations

import pytest

from tests.support.eventually import eventually
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]


async def test_an_inputs_headers_passed_on_take_neither_its_id_nor_its_batch_along(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", output="paid.{id}")
        async def split(order: Order, ctx: Context):
            for part in range(2):
                yield {"id": part}

        @consume("paid.{id}")
        async def copy(order: Order, ctx: Context) -> None:
            for copy in range(2):
                ctx.publish(f"audit.{copy}", order, headers={**ctx.headers, "Kind": "copy"})
    """)
    shop.run()
    await shop.order(1, headers={"Nats-Msg-Id": "mine"})
    await shop.settled("split")
    await shop.settled("copy", stream="PAID")
    copies = await shop.js.messages("AUDIT")
    assert sorted((each.subject, each.json()["id"], each.headers["Kind"]) for each in copies) == [
        (f"audit.{copy}", part, "copy") for copy in range(2) for part in range(2)
    ]
    assert {each.raw_headers.count(b"Nats-Msg-Id") for each in copies} == {1}
    assert {each.raw_headers.count(b"traceparent") for each in copies} <= {0, 1}


async def test_an_inputs_headers_passed_on_expect_nothing_of_another_stream(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", retry=RetryPolicy(attempts=1))
        async def charge(order: Order, ctx: Context) -> None:
            for subject in ("paid", "audit"):
                ctx.publish(f"{subject}.{order.id}", order, headers=ctx.headers)

        @consume("paid.{id}", retry=RetryPolicy(attempts=1))
        async def copy(order: Order, ctx: Context) -> None:
            ctx.publish(f"audit.copy.{order.id}", order, headers={**ctx.headers, "Kind": "copy"})
    """)
    shop.run()
    await shop.order(1, headers={"Nats-Expected-Stream": "ORDERS", "Tenant": "a"})
    await shop.settled("charge")
    await shop.settled("copy", stream="PAID")
    assert await shop.dead() == []
    copies = await shop.js.messages("AUDIT")
    assert [(each.subject, each.headers["Tenant"]) for each in copies] == [
        ("audit.1", "a"),
        ("audit.copy.1", "a"),
    ]


async def test_a_relay_whose_durable_is_deleted_publishes_nothing_a_second_time(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}")
        async def charge(order: Order, ctx: Context) -> None:
            ctx.publish("paid.late", order, delay=0.1)
    """, duplicate_window=10**8)  # fmt: skip
    shop.run()
    await shop.order(1, 2, 3)
    await eventually(lambda: _count(shop, "PAID", 3))
    await shop.settled("-relay", stream="JETRUNNER")
    await eventually(lambda: _empty(shop, "JETRUNNER"))
    await shop.js.api("CONSUMER.DELETE.JETRUNNER.shop--relay")
    await shop.order(4)
    await eventually(lambda: _count(shop, "PAID", 4))
    await shop.settled("-relay", stream="JETRUNNER")
    assert sorted(each.json()["id"] for each in await shop.js.messages("PAID")) == [1, 2, 3, 4]


async def test_delayed_messages_that_cannot_be_stored_keep_none_of_the_others_waiting(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}")
        async def charge(order: Order, ctx: Context) -> None:
            ctx.publish("paid.late" if order.id else "audit.late", order, delay=1)
    """, max_msgs=1, discard="new")  # fmt: skip
    shop.run()
    await shop.order(*range(1, 80))
    await shop.settled("charge")
    await eventually(lambda: _count(shop, "PAID", 1))
    await shop.order(0)
    await eventually(lambda: _count(shop, "AUDIT", 1))


async def test_a_delayed_publish_to_where_no_stream_is_is_the_handlers_failure(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", retry=RetryPolicy.fixed(0, attempts=2))
        async def charge(order: Order, ctx: Context) -> None:
            ctx.publish("nowhere.at.all", order, delay=60)
    """)
    shop.run()
    await shop.order(1)
    letter = await shop.dead_letter()
    assert reason(letter) == "exhausted"
    assert letter.headers["Jetrunner-Dead-Error"] == "NoStream"


async def _empty(shop: Shop, stream: str) -> bool:
    return await shop.js.count(stream) == 0


async def _count(shop: Shop, stream: str, count: int) -> bool:
    return await shop.js.count(stream) >= count
