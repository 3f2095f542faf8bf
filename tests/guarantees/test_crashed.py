"""A message that keeps killing its process ends as a dead letter, `crashed`; a neighbour in the same process never does."""

from __future__ import annotations

from functools import partial

import pytest

from tests.support.eventually import eventually
from tests.support.process import RunnerProcess
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

KILLER = """
    @consume("orders.{id}", retry=RetryPolicy.fixed(0.05), concurrency=8)
    async def charge(order: Order, ctx: Context) -> None:
        note("run", id=order.id, attempt=ctx.attempt)
        if order.note == "killer":
            if order.id % 2:
                await asyncio.sleep(0.1)
            note("killing")
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.15)
        note("done", id=order.id)
"""


async def restart_until_settled(shop: Shop, function: str = "charge", *, most: int) -> int:
    """Do what a supervisor does: start the runner again each time it dies. Returns how often it died."""
    for deaths in range(most + 1):
        process = shop.run()
        await eventually(partial(_over, shop, process, function))
        if process.running:
            return deaths
        await shop.give_back(function)
    raise AssertionError(f"the runner died more than {most} times:\n{process.output}")


async def _over(shop: Shop, process: RunnerProcess, function: str) -> bool:
    return not process.running or await shop.js.settled("ORDERS", f"shop-{function}")


async def test_a_killer_ends_as_crashed_after_two_deaths_and_two_of_its_own_and_its_neighbours_succeed(
    shop: Shop,
) -> None:
    await shop.open(KILLER)
    await shop.order(*range(10, 20))
    await shop.order(1, note="killer")
    await shop.order(*range(20, 30))
    deaths = await restart_until_settled(shop, most=6)
    (letter,) = await shop.dead()
    assert (reason(letter), letter.json()["id"], deaths) == ("crashed", 1, 2)
    assert len(shop.notes("killing")) == 4
    assert {each["id"] for each in shop.notes("done")} == set(range(10, 30))
    assert await shop.js.messages("KV_jetrunner", "$KV.jetrunner.start.>") == []


BATCHED = """
    @consume("orders.{id}", batch=8, linger=0.1, retry=RetryPolicy.fixed(0.05))
    async def charge(orders: list[Order]) -> None:
        if any(order.note == "killer" for order in orders):
            note("killing")
            os.kill(os.getpid(), signal.SIGKILL)
        for order in orders:
            note("done", id=order.id)
"""


async def test_a_killer_in_a_batch_is_found_and_its_neighbours_succeed(shop: Shop) -> None:
    await shop.open(BATCHED)
    await shop.order(*range(10, 15))
    await shop.order(1, note="killer")
    await shop.order(*range(15, 30))
    deaths = await restart_until_settled(shop, most=6)
    (letter,) = await shop.dead()
    assert (reason(letter), letter.json()["id"], deaths) == ("crashed", 1, 2)
    assert {each["id"] for each in shop.notes("done")} == set(range(10, 30))
    assert await shop.js.messages("KV_jetrunner", "$KV.jetrunner.start.>") == []


async def test_several_killers_at_once_all_end_as_crashed_and_nobody_else_does(shop: Shop) -> None:
    await shop.open(KILLER)
    await shop.order(*range(10, 16))
    await shop.order(1, 2, 3, note="killer")
    await shop.order(*range(16, 22))
    await restart_until_settled(shop, most=20)
    assert {(reason(letter), letter.json()["id"]) for letter in await shop.dead()} == {
        ("crashed", 1),
        ("crashed", 2),
        ("crashed", 3),
    }
    assert {each["id"] for each in shop.notes("done")} == set(range(10, 22))


async def test_a_message_that_was_there_when_others_died_keeps_its_retries(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", retry=RetryPolicy.fixed(0.05, attempts=20))
        async def charge(order: Order, ctx: Context) -> None:
            note("run", id=order.id, attempt=ctx.attempt)
            if ctx.attempt < 8:
                await asyncio.sleep(0.05)
                raise ValueError("not yet")
    """)
    await shop.order(1)
    for run in range(3):
        process = shop.run()
        await shop.noted("run", run * 2 + 1)
        process.kill()
        await shop.give_back("charge")
    shop.run()
    await shop.settled("charge")
    assert await shop.dead() == []
    assert max(each["attempt"] for each in shop.notes("run")) >= 8


async def test_a_process_that_is_killed_from_outside_three_times_blames_nobody(shop: Shop) -> None:
    """Nor more often: `test_cells.py`. One that was told to end before it was killed counts at no time: `test_no_death.py`."""
    await shop.open("""
        @consume("orders.{id}", concurrency=4)
        async def charge(order: Order, ctx: Context) -> None:
            note("run", id=order.id)
            await asyncio.sleep(0.3)
            note("done", id=order.id)
    """)
    await shop.order(*range(8))
    for kill in range(1, 4):
        process = shop.run()
        await shop.noted("run", kill)
        process.kill()
        await shop.give_back("charge")
    shop.run()
    await shop.settled("charge", within=60)
    assert await shop.dead() == []
    assert {each["id"] for each in shop.notes("done")} == set(range(8))


async def test_a_suspect_does_not_run_alone_beside_a_handler_that_ignored_its_timeout(shop: Shop) -> None:
    """Nor does anything else wait for that one to end."""
    await shop.open("""
        @consume("orders.{id}", retry=RetryPolicy.fixed(0.1))
        async def charge(order: Order, ctx: Context) -> None:
            note("run", id=order.id, attempt=ctx.attempt)
            if order.note == "suspect" and ctx.attempt == 1:
                while not os.path.exists("suspected"):
                    await asyncio.sleep(0.01)
                raise ValueError("once more")

        @consume("audit.stuck", timeout=0.2, retry=RetryPolicy(attempts=1))
        def stuck(order: Order) -> None:
            while not os.path.exists("open"):
                time.sleep(0.01)
            note("ended")
    """)
    process = await shop.running("charge")
    await shop.js.publish("audit.stuck", {"id": 0})
    await shop.dead_letter()
    await shop.order(1, note="suspect")
    await shop.noted("run")
    await shop.js.publish("$KV.jetrunner.start.shop.charge.ORDERS.1", b"2")  # as an earlier version leaves it
    (shop.project.root / "suspected").touch()
    await process.seen(r"charge: ORDERS:1 waits to run alone in this process")
    await shop.order(*range(2, 10))
    await shop.noted("run", 9)
    (shop.project.root / "open").touch()
    (ended,) = await shop.noted("ended")
    await shop.settled("charge")
    (*_, last) = shop.notes("run")
    assert (last["id"], last["attempt"]) == (1, 3)
    assert last["at"] > ended["at"]
    assert await shop.js.messages("KV_jetrunner", "$KV.jetrunner.start.>") == []


@pytest.mark.slow
async def test_supervised_workers_come_back_until_the_killer_is_a_dead_letter(shop: Shop) -> None:
    await shop.open(KILLER)
    process = await shop.running("charge", "--workers", "2")
    await shop.order(*range(10, 20))
    await shop.order(1, note="killer")
    await shop.order(*range(20, 30))
    for death in range(1, 3):
        run = (await shop.noted("killing", death))[-1]
        await eventually(partial(_gone, process, run["pid"]))
        # The killer alone: what the other worker has in work is not to be disturbed.
        await shop.give_back("charge", sequences=[11])
    letter = await shop.dead_letter()
    await shop.give_back("charge")
    await shop.settled("charge", within=60)
    assert (reason(letter), letter.json()["id"]) == ("crashed", 1)
    assert await shop.js.count("DEADLETTERS") == 1
    assert {each["id"] for each in shop.notes("done")} == set(range(10, 30))
    assert process.running


def _gone(process: RunnerProcess, worker: int) -> bool:
    return worker not in process.children()
