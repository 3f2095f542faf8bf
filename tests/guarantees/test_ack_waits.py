"""A message in work is given to no other instance: its ack wait is extended as long as that takes."""

from __future__ import annotations

import time

import pytest

from tests.support.eventually import eventually
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FUNCTIONS = ("in_loop", "in_thread", "queued")


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
    assert (await shop.js.consumer("ORDERS", "shop-in_loop"))["config"]["ack_wait"] == 10 * 10**9
    for turn in range(
        1, 4
    ):  # one that stands still for seven seconds loses its messages, and not three times
        before = await deliveries(shop), len(shop.notes("start")), len(shop.notes("queued"))
        await shop.js.publish("orders.loop", {"id": 1})
        await shop.js.publish("orders.thread", {"id": 1})
        await shop.js.publish("orders.queue.1", {"id": 1})
        await shop.noted("done", 2 * turn)
        for function in FUNCTIONS:
            await shop.settled(function)
        if await deliveries(shop) == before[0] + 3:
            break
    assert await deliveries(shop) == before[0] + 3
    assert (len(shop.notes("start")), len(shop.notes("queued"))) == (before[1] + 2, before[2] + 1)


async def deliveries(shop: Shop) -> int:
    """How many there were to all functions."""
    infos = [await shop.js.consumer("ORDERS", f"shop-{function}") for function in FUNCTIONS]
    return sum(int(info["delivered"]["consumer_seq"]) for info in infos)


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
    await eventually(lambda: len(heard) >= 2)
    first, second = (at - start["at"] for at, _ in heard[:2])
    assert 2.5 < first < second
    assert 5.5 < second < 25, "6, and what a busy machine adds"
    (shop.project.root / "open").touch()
    await eventually(lambda: heard[-1][1] == b"+ACK")
    assert {body for _, body in heard[:-1]} == {b"+WPI"}
