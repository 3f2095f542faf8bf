"""A message of an ordered function that waits for its next attempt does so whoever owns it, and a death is no failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

CHARGE = """
    @consume("orders.{customer}", output="paid.{customer}", ordered_by="customer",
             retry=RetryPolicy.fixed(30.0, attempts=5))
    async def charge(order: Order, customer: str, ctx: Context) -> Order:
        note("start", id=order.id, customer=customer, attempt=ctx.attempt)
        if ctx.attempt <= int(order.note or 0):
            raise Retry("bank is closed", after=AFTER)
        note("done", id=order.id, customer=customer)
        return order
"""
DURABLE = "shop-charge-0-0"


def charge(after: float) -> str:
    return CHARGE.replace("AFTER", f"{after}")


def starts(shop: Shop, number: int) -> list[int]:
    return [note["attempt"] for note in shop.notes("start") if note["id"] == number]


def done(shop: Shop) -> list[int]:
    return [note["id"] for note in shop.notes("done")]


async def running(shop: Shop) -> RunnerProcess:
    process = shop.run()
    await process.seen("ready")
    return process


async def order(shop: Shop, customer: str, *numbers: int, fails: int = 0) -> None:
    for number in numbers:
        await shop.js.publish(f"orders.{customer}", {"id": number, "note": str(fails)})


async def failures(shop: Shop) -> list[Any]:
    return [each.json() for each in await shop.js.messages("KV_jetrunner", "$KV.jetrunner.failures.>")]


async def recorded(shop: Shop, count: int) -> bool:
    return len(await failures(shop)) == count


async def _owner(shop: Shop, processes: list[RunnerProcess]) -> RunnerProcess:
    """Which of the processes the shard is claimed by."""
    (claim,) = await shop.js.messages("KV_jetrunner", "$KV.jetrunner.claim.>")
    (owner,) = [each for each in processes if str(each.pid) in claim.json()["owner"].split("-")]
    return owner


async def test_what_is_left_of_a_delay_is_kept_by_every_owner_and_deaths_cost_no_attempt(shop: Shop) -> None:
    """Seven messages rest, five owners die; a later message of a key waits behind its own, another key goes on."""
    await shop.open(charge(15.0))
    # All of them are there before the delays begin: a start may take seconds.
    processes = [shop.run() for _ in range(6)]
    for process in processes:
        await process.seen("ready")
    customers = [f"c{number}" for number in range(7)]
    for number, customer in enumerate(customers):
        await order(shop, customer, number, fails=1)
    await eventually(lambda: recorded(shop, 7))
    began = max(note["at"] for note in shop.notes("start"))
    for _ in range(5):
        owner = await eventually(partial(_owner, shop, processes))
        await owner.seen("owns 1 of 1 shard")
        owner.kill()
        processes.remove(owner)
    await eventually(partial(_owner, shop, processes))
    await order(shop, "c0", 10)
    await order(shop, "other", 11)
    ordered = time.time()
    await eventually(lambda: len(done(shop)) == 9)
    assert [starts(shop, number) for number in range(7)] == [[1, 2]] * 7
    again = [note["at"] for note in shop.notes("start") if note["attempt"] == 2]
    assert min(again) - began >= 14.0
    (other,) = [note["at"] for note in shop.notes("start") if note["id"] == 11]
    # Where five owners die within four seconds, nothing stands still for all of the others.
    assert other < min(again) or ordered > began + 4.0
    assert done(shop).index(10) > done(shop).index(0)
    await eventually(lambda: recorded(shop, 0))
    assert all(each["count"] == 1 for each in await failures(shop))


async def test_one_that_is_stopped_hands_the_rest_of_the_delay_over(shop: Shop) -> None:
    await shop.open(charge(6.0))
    first = await running(shop)
    await order(shop, "anna", 1, fails=2)
    await eventually(lambda: recorded(shop, 1))
    first.terminate()
    assert await first.ended() == 0
    await running(shop)
    await eventually(lambda: done(shop) == [1])
    assert starts(shop, 1) == [1, 2, 3]
    times = [note["at"] for note in shop.notes("start")]
    assert times[1] - times[0] >= 5.9
    assert times[2] - times[1] >= 5.9


async def test_a_clock_that_is_far_off_puts_nothing_off_for_longer_than_was_asked(
    shop: Shop,
) -> None:
    """The owner that wrote the record was an hour ahead."""
    await shop.open(charge(7200.0))
    first = await running(shop)
    await order(shop, "anna", 1, fails=1)
    await eventually(lambda: recorded(shop, 1))
    first.kill()
    (record,) = await shop.js.messages("KV_jetrunner", "$KV.jetrunner.failures.>")
    assert record.json()["delay"] == 7200.0
    ahead = {**record.json(), "delay": 2.0, "due": time.time() + 2.0 + 3600}
    await shop.js.publish(record.subject, ahead)
    await running(shop)
    await eventually(lambda: done(shop) == [1])
    assert starts(shop, 1) == [1, 2]


async def test_failures_of_a_message_say_nothing_about_another_of_its_number(
    shop: Shop, make_project: Callable[..., Any]
) -> None:
    """The stream is deleted and made again while nobody runs."""
    await shop.open(charge(0.01))
    first = await running(shop)
    await order(shop, "anna", 1, fails=4)
    await eventually(lambda: done(shop) == [1])
    await order(shop, "anna", 2, fails=9)
    await eventually(lambda: starts(shop, 2) == [1, 2, 3, 4, 5])
    await eventually(lambda: shop.js.settled("ORDERS", DURABLE))
    first.kill()
    shop.write(charge(60.0))
    await order(shop, "ben", 3, fails=1)
    first = await running(shop)
    await eventually(lambda: recorded(shop, 1))
    first.kill()
    await shop.js.api("STREAM.DELETE.ORDERS")
    await shop.js.create("ORDERS", ["orders.>"])
    for _ in range(3):
        await order(shop, "ben", 4)
    await running(shop)
    await eventually(lambda: done(shop)[-3:] == [4, 4, 4])
    assert starts(shop, 4) == [1, 1, 1]


async def test_the_number_that_an_earlier_release_has_recorded_counts(shop: Shop, js: RawJetStream) -> None:
    await shop.open(charge(0.01))
    await order(shop, "anna", 1, fails=4)
    await js.create("KV_jetrunner", ["$KV.jetrunner.>"], max_msgs_per_subject=1, allow_direct=True)
    await js.publish("$KV.jetrunner.failures.shop.charge.0.0.1", b"3")
    await running(shop)
    await eventually(lambda: done(shop) == [1])
    assert starts(shop, 1) == [4, 5]
