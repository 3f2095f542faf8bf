"""Nothing acknowledged to a publisher is lost: each message is handled to success or stands in the dead letters."""

from __future__ import annotations

import random

import pytest

from tests.support.eventually import eventually
from tests.support.server import NatsServer
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

LUCK = """
    import random

    @consume("orders.{id}", output="paid.{id}", concurrency=16, retry=RetryPolicy.fixed(0.05, attempts=50))
    async def charge(order: Order) -> Order:
        await asyncio.sleep(random.random() * 0.05)
        if order.note == "bad":
            raise Reject("bad")
        if random.random() < 0.2:
            raise ValueError("bad luck")
        note("done", id=order.id)
        return order
"""


async def test_killed_runners_and_a_killed_server_lose_nothing_and_blame_nobody(
    shop: Shop, nats_server: NatsServer
) -> None:
    await shop.open(LUCK)
    luck = random.Random(7)
    bad = set(luck.sample(range(300), 20))
    for number in range(300):
        await shop.order(number, note="bad" if number in bad else "")
    for kill in range(1, 5):
        process = shop.run()
        await shop.noted("done", kill * 40 + luck.randrange(20))
        if kill == 3:
            nats_server.restart(kill=True)
            await shop.noted("done", len(shop.notes("done")) + 20)
        process.kill()
        await shop.give_back("charge")
    shop.run()
    await shop.settled("charge", within=60)
    handled = {each.json()["id"] for each in await shop.js.messages("PAID")}
    letters = await shop.dead()
    assert {letter.json()["id"] for letter in letters} == bad
    assert {reason(letter) for letter in letters} == {"rejected"}
    assert handled == set(range(300)) - bad
    assert await shop.js.count("PAID") == 280


async def test_a_message_whose_process_is_frozen_is_handled_by_another(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", concurrency=3, output="paid.{id}")
        async def charge(order: Order) -> Order:
            note("start", id=order.id, pid=os.getpid())
            while not os.path.exists("open"):
                await asyncio.sleep(0.01)
            return order
    """)
    frozen = await shop.running("charge")
    await shop.order(1, 2, 3)
    await shop.noted("start", 3)
    frozen.freeze()
    (shop.project.root / "open").touch()
    await shop.give_back("charge")  # what its silence does after ten seconds
    await shop.order(4)
    shop.run()
    await eventually(lambda: _paid(shop, 4))
    frozen.thaw()
    await shop.settled("charge")
    assert sorted(each.subject for each in await shop.js.messages("PAID")) == [
        f"paid.{number}" for number in range(1, 5)
    ]


@pytest.mark.slow
async def test_what_a_killed_process_had_is_delivered_again_within_the_ack_wait(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", concurrency=2)
        async def charge(order: Order, ctx: Context) -> None:
            note("start", id=order.id, pid=os.getpid())
            await asyncio.sleep(60 if ctx.attempt == 1 and order.note else 0)
            note("done", id=order.id)

        @consume("orders.{id}", concurrency=1)
        async def blocking(order: Order, ctx: Context) -> None:
            if order.note and not os.path.exists("blocked"):
                open("blocked", "w").close()
                note("blocked", pid=os.getpid())
                while not os.path.exists("open"):
                    time.sleep(0.01)
            note("handled", id=order.id, pid=os.getpid())
    """)
    process = await shop.running("charge", "--only", "charge")
    await shop.running("blocking", "--only", "blocking")
    await shop.order(1, 2, note="slow")
    await shop.noted("start", 2)
    (blocked,) = await shop.noted("blocked")
    process.kill()
    shop.run()
    await shop.order(3)
    done = await shop.noted("done", 3)
    assert {each["id"] for each in done} == {1, 2, 3}
    # Of the process whose loop is blocked, somebody else has taken over what it had.
    await eventually(
        lambda: {each["id"] for each in shop.notes("handled") if each["pid"] != blocked["pid"]} == {1, 2, 3}
    )
    (shop.project.root / "open").touch()
    await shop.settled("charge")
    assert await shop.dead() == []


async def _paid(shop: Shop, count: int) -> bool:
    return await shop.js.count("PAID") >= count
