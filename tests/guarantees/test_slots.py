"""A function never runs more messages at once than its `concurrency`; only one that is fast has more of them here, and not for long."""

from __future__ import annotations

import json
import statistics

import pytest

from tests.support.eventually import eventually
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

COUNTED = """
    running = 0
    failed = set()

    @consume("orders.{{id}}", concurrency={slots}, retry=RetryPolicy.fixed(0.05))
    {kind} charge(order: Order, ctx: Context) -> None:
        global running
        running += 1
        note("run", id=order.id, running=running)
        {pause}(0.02)
        running -= 1
        if order.id % 10 == 0 and order.id not in failed:  # one that was given back may be at a later attempt
            failed.add(order.id)
            raise ValueError("once more")
"""


@pytest.mark.parametrize(("kind", "pause"), [("async def", "await asyncio.sleep"), ("def", "time.sleep")])
@pytest.mark.parametrize("slots", [1, 3])
async def test_no_more_run_at_once_than_the_concurrency(
    shop: Shop, slots: int, kind: str, pause: str
) -> None:
    await shop.open(COUNTED.format(slots=slots, kind=kind, pause=pause))
    await shop.order(*range(40))
    shop.run()
    await shop.noted("run", 44)
    await shop.settled("charge")
    assert max(each["running"] for each in shop.notes("run")) == slots
    assert len(shop.notes("run")) == 44
    assert await shop.dead() == []


async def test_messages_sent_back_share_the_slots(shop: Shop) -> None:
    await shop.open(COUNTED.format(slots=2, kind="async def", pause="await asyncio.sleep"))
    await shop.running("charge")
    for number in range(1, 20):
        await shop.order(number)
        body = json.dumps({"id": number}).encode()
        await shop.js.publish(
            "$JETRUNNER.again.shop.charge",
            body,
            {
                "Jetrunner-Origin-Stream": "ORDERS",
                "Jetrunner-Origin-Sequence": str(number),
                "Jetrunner-Origin-Timestamp": "1",
                "Jetrunner-Origin-Subject": f"orders.{number}",
            },
        )
    await shop.settled("charge")
    await shop.settled("charge", stream="JETRUNNER")
    assert max(each["running"] for each in shop.notes("run")) == 2


async def test_of_two_instances_with_one_slot_neither_hoards(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", concurrency=1)
        async def charge(order: Order) -> None:
            note("run", pid=os.getpid())
            while not os.path.exists("open"):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
    """)
    for _ in range(2):
        shop.run()
    await eventually(lambda: shop.pulling("charge", 2))
    await shop.order(*range(20))
    await shop.noted("run", 2)
    assert {await shop.in_work("charge") for _ in range(50)} == {2}
    assert (await shop.js.consumer("ORDERS", "shop-charge"))["num_pending"] == 18
    (shop.project.root / "open").touch()

    async def both_go_on() -> bool:
        by = [each["pid"] for each in shop.notes("run")]
        await shop.order(len(by))  # so that one that stood still for a while has some of them, too
        return len(by) >= 20 and all(by.count(pid) >= 7 for pid in set(by))

    await eventually(both_go_on)
    await shop.settled("charge")


async def test_a_fast_function_has_more_here_than_run_and_never_runs_more(shop: Shop) -> None:
    await shop.open("""
        running = most = 0
        done = set()
        more = 0

        @consume("orders.{id}", concurrency=2)
        async def charge(order: Order, ctx: Context) -> None:
            global running, most, more
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            more += order.id in done
            done.add(order.id)
            if len(done) % 100 == 0:
                note("ran", most=most, done=len(done), more=more)
    """)
    await shop.running("charge")
    published, here = 0, 0
    while here <= 8:  # four times its slots
        assert published < 100_000, here
        for _ in range(500):
            published += 1
            await shop.js.client.publish(f"orders.{published}", b'{"id":%d}' % published)
        await shop.js.client.flush()
        here = max(here, await shop.in_work("charge"))
    left = -published % 100
    for _ in range(left or 100):
        published += 1
        await shop.js.client.publish(f"orders.{published}", b'{"id":%d}' % published)
    await shop.js.client.flush()
    await shop.settled("charge")
    last = shop.notes("ran")[-1]
    assert (last["most"], last["done"], last["more"]) == (2, published, 0)


async def test_a_function_that_was_fast_and_is_slow_now_has_hardly_more_here_than_it_runs(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", concurrency=2)
        async def charge(order: Order) -> None:
            if order.note == "slow":
                note("slow")
                await asyncio.sleep(0.1)
    """)
    await shop.order(*range(2_000))
    await shop.running("charge")
    await shop.settled("charge")
    await shop.order(*range(10), note="slow")
    await shop.noted("slow", 10)
    await shop.order(*range(60), note="slow")
    await shop.noted("slow", 20)
    at_most = 2 + 2  # both slots may complete one in the same 20 ms
    # Some of the time the server may not have counted all acks.
    assert statistics.median([await shop.in_work("charge") for _ in range(30)]) <= at_most
    await shop.settled("charge")


@pytest.mark.parametrize("pace", ["all stand", "one ends now and then"])
async def test_what_was_fetched_ahead_of_slow_messages_goes_to_an_instance_that_is_free(
    shop: Shop, pace: str
) -> None:
    await shop.open(
        """
        @consume("orders.{id}", concurrency=4, timeout=60)
        async def charge(order: Order) -> None:
            if order.note == "slow":
                note("slow", id=order.id, pid=os.getpid())
                if not PACE or order.id % 4:
                    while not os.path.exists("open"):
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.7)
    """.replace("PACE", str(pace != "all stand"))
    )
    opens = shop.project.root / "open"
    for turn in range(3):  # one that stood still has not fetched them all, and not three times
        opens.unlink(missing_ok=True)
        before = len(shop.notes("slow"))
        for number in range(10_012):  # one backlog: few slow ones right behind fast ones
            told = number + 20_000 * turn, b"slow" if number >= 10_000 else b""
            await shop.js.client.publish(f"orders.{number}", b'{"id":%d,"note":"%s"}' % told)
        await shop.js.client.flush()
        if not turn:
            shop.run()
        await shop.noted("slow", before + 4)
        if all_here := not (await shop.js.consumer("ORDERS", "shop-charge"))["num_pending"]:
            break
        opens.touch()
        await shop.settled("charge")
    assert all_here
    shop.run()
    await eventually(lambda: len({each["pid"] for each in shop.notes("slow")}) == 2)
    assert len({each["id"] for each in shop.notes("slow")}) == len(shop.notes("slow"))


async def test_a_burst_is_spread_over_all_slots(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", concurrency=64)
        async def charge(order: Order) -> None:
            note("start")
            while not os.path.exists("open"):
                await asyncio.sleep(0.01)
    """)
    await shop.order(*range(100))
    shop.run()
    await shop.noted("start", 64)
    assert await shop.in_work("charge") == 64
    (shop.project.root / "open").touch()
    await shop.settled("charge")
    assert len(shop.notes("start")) == 100
