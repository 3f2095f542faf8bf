"""`def` handlers share Python's lock with the loop: there are few of them at once, and the lock changes hands more often."""

from __future__ import annotations

import os

import pytest

from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

FEW = min(32, (os.cpu_count() or 1) + 4)
WAITING = """
    running = 0
    lock = threading.Lock()

    @consume("orders.{{id}}"{option})
    def charge(order: Order) -> None:
        global running
        with lock:
            running += 1
            note("start", running=running, interval=sys.getswitchinterval())
        while not os.path.exists("open"):
            time.sleep(0.01)
        with lock:
            running -= 1
"""


@pytest.mark.parametrize(("option", "most"), [("", FEW), (", concurrency=48", 48)])
async def test_no_more_threads_run_than_the_machine_has_cores_for_unless_more_are_asked_for(
    shop: Shop, option: str, most: int
) -> None:
    await shop.open(WAITING.format(option=option))
    await shop.order(*range(100))
    shop.run()
    await shop.noted("start", most)
    assert {await shop.in_work("charge") for _ in range(20)} == {most}
    (shop.project.root / "open").touch()
    await shop.settled("charge")
    starts = shop.notes("start")
    assert len(starts) == 100
    assert max(each["running"] for each in starts) == most


async def test_the_lock_changes_hands_more_often_only_while_handlers_run_in_threads(shop: Shop) -> None:
    await shop.open(
        WAITING.format(option="")
        + """
    @consume("paid.{id}")
    async def look(order: Order) -> None:
        note("look", interval=sys.getswitchinterval())
    """
    )
    shop.run()
    await shop.order(1, 2)
    starts = await shop.noted("start", 2)
    (shop.project.root / "open").touch()
    await shop.settled("charge")
    await shop.js.publish("paid.1", {"id": 1})
    (after,) = await shop.noted("look")
    assert {each["interval"] for each in starts} == {0.0005}
    assert after["interval"] == 0.005
