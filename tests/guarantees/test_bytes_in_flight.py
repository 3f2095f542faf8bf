"""Large messages: a process has so many bytes in flight, not so many messages, and keeps its connection."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

LARGE = "x" * 900_000
MB = 1_000_000
BRIEFLY = """
    @consume("orders.*", concurrency=64{more})
    async def work{n}(order: Order) -> None:
        note("run", function={n}, id=order.id)
        time.sleep(0.01)  # as decoding and work do
        await asyncio.sleep(0.2)
"""
FOR_LONG = """
    go_on = asyncio.Event()

    @consume("orders.*", concurrency=16, timeout=600)
    async def work{n}(order: Order) -> None:
        note("run", function={n}, id=order.id)
        while not os.path.exists("go_on"):
            await asyncio.sleep(0.05)
        note("done", function={n}, id=order.id)

"""


def functions(source: str, count: int, more: str = "") -> str:
    return "\n".join(source.replace("{n}", str(n)).replace("{more}", more) for n in range(count))


def most_memory(process: RunnerProcess) -> int:
    """Bytes that a process has had at most."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def runs(shop: Shop, what: str = "run") -> Counter[tuple[int, int]]:
    return Counter((each["function"], each["id"]) for each in shop.notes(what))


async def in_work(shop: Shop, count: int) -> int:
    return sum([await shop.in_work(f"work{n}") for n in range(count)])


@pytest.mark.parametrize("wire", ["fast", pytest.param("plain", marks=pytest.mark.thorough)])
async def test_six_functions_with_large_messages_keep_their_connection_and_run_each_once(
    shop: Shop, nats_server: NatsServer, wire: str
) -> None:
    await shop.open(functions(BRIEFLY, 6))
    process = shop.run(JETRUNNER_WIRE=wire)
    await process.seen("ready: ")
    await shop.order(*range(80), note=LARGE)
    await eventually(lambda: len(runs(shop)) == 6 * 80, within=60)
    for n in range(6):
        await shop.settled(f"work{n}", within=60)
    memory = most_memory(process)
    assert "Slow Consumer" not in nats_server.tail(1000)
    assert "lost" not in process.output
    assert set(runs(shop).values()) == {1}
    assert memory < 350 * MB


async def test_two_functions_have_no_more_in_flight_than_the_process_may(shop: Shop) -> None:
    await shop.open(functions(FOR_LONG, 2))
    await shop.order(*range(32), note=LARGE)
    process = shop.run(JETRUNNER_MAX_BYTES_IN_FLIGHT="16MiB")
    await process.seen("ready: ")
    await eventually(lambda: _both_work(shop))
    await eventually(lambda: _stands(shop))
    assert await in_work(shop, 2) * len(LARGE) <= 16 * 1024 * 1024
    (shop.project.root / "go_on").touch()
    await eventually(lambda: len(runs(shop, "done")) == 64)
    assert set(runs(shop).values()) == {1}


async def _both_work(shop: Shop) -> bool:
    return all([await shop.in_work(f"work{n}") >= 1 for n in range(2)])


async def _stands(shop: Shop) -> bool:
    """Whether all that is in the server's hands is in the handlers', and stays there."""
    given = await in_work(shop, 2)
    return given == len(shop.notes("run")) and given == await in_work(shop, 2)


@pytest.mark.parametrize("order", ["", ', ordered_by="id"'])
async def test_a_message_larger_than_the_whole_budget_is_delivered_and_small_ones_do_not_wait_for_it(
    make_server: Callable[..., NatsServer], make_project: Callable[..., Project], order: str
) -> None:
    server = make_server("max_payload: 8MB")
    async with RawJetStream.connect(server.url) as js:
        shop = Shop(js, server.url, make_project)
        source = functions(FOR_LONG, 2).replace("orders.*", "orders.{id}").replace("=16", "=16" + order)
        await shop.open(
            source + functions(BRIEFLY, 1).replace("orders.*", "audit.*").replace("work0", "small")
        )
        process = shop.run(JETRUNNER_MAX_BYTES_IN_FLIGHT="1MiB")
        await process.seen("ready: ")
        await shop.order(*range(3), note="x" * 7_000_000)
        await eventually(lambda: len(shop.notes("run")) >= 1)
        for number in range(100, 200):
            await js.publish(f"audit.{number}", {"id": number, "note": "small"})
        await eventually(lambda: sum(each >= 100 for _, each in runs(shop)) == 100)
        assert len(runs(shop)) == 100 + 1  # what is larger than the budget goes one by one
        (shop.project.root / "go_on").touch()
        await eventually(lambda: len(runs(shop, "done")) == 6)
        assert set(runs(shop).values()) == {1}


@pytest.mark.parametrize("limit", [{"max_bytes": 5000}, {}])
async def test_large_and_small_messages_come_in_turns_from_one_stream(
    shop: Shop, limit: dict[str, Any]
) -> None:
    # `max_bytes` of a durable caps what one request may ask for.
    await shop.open(functions(BRIEFLY, 3))
    await (await shop.running("work0", JETRUNNER_MAX_BYTES_IN_FLIGHT="4MiB")).seen("ready: ")
    if limit:
        config = (await shop.js.consumer("ORDERS", "shop-work0"))["config"] | limit
        body = {"stream_name": "ORDERS", "config": config, "action": "update"}
        await shop.js.api("CONSUMER.CREATE.ORDERS.shop-work0", body)
    for number in range(120):
        await shop.order(number, note=LARGE if number % 10 == 3 else "small")
    await eventually(lambda: len(runs(shop)) == 360)
    assert set(runs(shop).values()) == {1}
