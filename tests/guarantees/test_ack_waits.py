"""A message in work is given to no other instance: its ack wait is extended as long as that takes."""

from __future__ import annotations

import time

import pytest

from tests.support.eventually import eventually
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.mark.slow
async def test_handlers_that_take_longer_than_the_ack_wait_run_once(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.loop", timeout=60)
        async def in_loop(order: Order) -> None:
            note("start")
            await asyncio.sleep(13)
            note("done")

        @consume("orders.thread", timeout=60)
        def in_thread(order: Order) -> None:
            note("start")
            time.sleep(13)
            note("done")

        @consume("orders.queue.{id}", concurrency=1, timeout=60)
        async def queued(order: Order) -> None:
            note("queued", id=order.id)
            if order.id == 1:
                await asyncio.sleep(13)
    """)
    await shop.running("in_loop")
    shop.run()  # another one that would take them over
    await shop.js.publish("orders.loop", {"id": 1})
    await shop.js.publish("orders.thread", {"id": 1})
    await shop.js.publish("orders.queue.1", {"id": 1})
    assert (await shop.js.consumer("ORDERS", "shop-in_loop"))["config"]["ack_wait"] == 10 * 10**9
    await shop.noted("done", 2)
    for function in ("in_loop", "in_thread", "queued"):
        await shop.settled(function)
        assert (await shop.js.consumer("ORDERS", f"shop-{function}"))["delivered"]["consumer_seq"] == 1
    assert len(shop.notes("start")) == 2
    assert len(shop.notes("queued")) == 1


async def test_the_server_hears_of_a_message_in_work_every_three_seconds(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", timeout=60)
        async def charge(order: Order) -> None:
            note("start")
            while not os.path.exists("open"):
                await asyncio.sleep(0.01)
    """)
    heard: list[tuple[float, bytes]] = []

    async def listen(message: object) -> None:
        heard.append((time.time(), message.data))  # type: ignore[attr-defined]

    await shop.js.client.subscribe("$JS.ACK.ORDERS.shop-charge.>", cb=listen)
    await shop.order(1)
    shop.run()
    (start,) = await shop.noted("start")
    await eventually(lambda: len(heard) == 2)
    first, second = (at - start["at"] for at, _ in heard)
    assert 2.5 < first < second
    assert 5.5 < second < 15, "6, and what a busy machine adds"
    (shop.project.root / "open").touch()
    await eventually(lambda: heard[-1][1] == b"+ACK")
    assert {body for _, body in heard[:-1]} == {b"+WPI"}
