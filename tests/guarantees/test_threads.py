"""`def` handlers share Python's lock with the loop: there are few of them at once, and the lock changes hands more often."""

from __future__ import annotations

import asyncio
import json
import os
import time
from itertools import pairwise

import pytest
from nats.aio.msg import Msg

from runner.core.lease import TTL_SECONDS
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


COMPUTES = """
    @consume("audit.{id}", timeout=600.0)
    def compute(id: int) -> None:
        note("computes", id=id)
        end = time.perf_counter() + 0.3
        while time.perf_counter() < end:
            for number in range(1000):
                number * number

    @consume("orders.{id}", ordered_by="id")
    async def charge(order: Order) -> None:
        note("start", number=int(order.note))
"""
SECONDS = 5.0  # longer than a lease lasts
APART = 0.02


@pytest.mark.slow
async def test_the_ordered_neighbour_of_threads_that_compute_keeps_its_lease(shop: Shop) -> None:
    """As many as run by default; another instance would take its shard over as soon as the lease has run out.

    With `-s` it prints how long its starts take: `uv run pytest tests/guarantees/test_threads.py -k neighbour -s`.
    """
    await shop.open(COMPUTES)
    leases: list[tuple[float, str, str]] = []

    async def heard(lease: Msg) -> None:
        instance, state = lease.subject.rpartition(".")[2], json.loads(lease.data)["state"]
        leases.append((time.monotonic(), instance, state))

    await shop.js.client.subscribe("$KV.jetrunner.member.shop.>", cb=heard)
    process = shop.run()
    await process.seen("owns 1 of 1 shard")
    ((_, mine, _), *_) = leases
    await shop.run("--only", "charge").seen("ready")
    for number in range(round(SECONDS / 0.3) * FEW * 2):
        await shop.js.client.publish(f"audit.{number}", b"{}")
    await shop.noted("computes", FEW)
    leases.clear()
    published: list[float] = []
    while len(published) < SECONDS / APART:
        published.append(time.time())
        await shop.order(len(published) % 50, note=str(len(published)))
        await asyncio.sleep(APART)
    starts = await shop.noted("start", len(published))
    late = sorted(each["at"] - published[each["number"] - 1] for each in starts)
    times = [moment for moment, instance, _ in leases if instance == mine]
    gap = longest(times)
    print(
        f"{FEW} threads compute; {len(starts)} ordered starts: p50 {late[len(late) // 2] * 1000:.0f} ms, "
        f"p99 {late[len(late) * 99 // 100] * 1000:.0f} ms; the lease renewed every {gap:.2f} s at least"
    )
    assert {state for _, _, state in leases} == {"alive"}
    computed = [each["at"] for each in shop.notes("computes") if each["pid"] == process.pid]
    inside = [at for at in computed if published[0] < at < published[-1]]
    if longest([published[0], *inside, published[-1]]) > 1.0 or longest(published) > 1.0:
        return  # no thread went on either, or this process did not: it was the machine that kept the loop waiting
    assert gap < TTL_SECONDS
    assert {each["pid"] for each in starts} == {process.pid}
    assert len(starts) == len(published), "each has run once"
    assert late[len(late) * 99 // 100] < TTL_SECONDS


def longest(times: list[float]) -> float:
    """The most seconds from one to the next."""
    return max(after - before for before, after in pairwise(sorted(times)))
