"""A server, or a durable, that caps what one request may ask for: the runner asks for less."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.health import asked
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

WORK = """
    @consume("orders.{id}")
    async def work(order: Order) -> None:
        note("run", id=order.id)
"""
ORDERED = WORK.replace('{id}"', '{id}", ordered_by="id"')


async def all_run(shop: Shop, numbers: set[int]) -> None:
    await eventually(lambda: {each["id"] for each in shop.notes("run")} == numbers)


async def edited(shop: Shop, **changes: Any) -> None:
    config = (await shop.js.consumer("ORDERS", "shop-work"))["config"] | changes
    body = {"stream_name": "ORDERS", "config": config, "action": "update"}
    await shop.js.api("CONSUMER.CREATE.ORDERS.shop-work", body)


def refusals(process: RunnerProcess) -> list[str]:
    return [line for line in process.output.splitlines() if "refused" in line]


@pytest.mark.parametrize("source", [WORK, ORDERED])
@pytest.mark.parametrize("limit", ["max_request_batch: 5", "max_request_batch: 1"])
async def test_a_server_that_caps_a_request_is_asked_for_less(
    make_server: Callable[..., NatsServer],
    make_project: Callable[..., Project],
    tmp_path: Path,
    source: str,
    limit: str,
) -> None:
    store = json.dumps(str(tmp_path / "limited"))
    server = make_server(f"jetstream {{ store_dir: {store}, limits: {{ {limit} }} }}")
    async with RawJetStream.connect(server.url) as js:
        shop = Shop(js, server.url, make_project)
        await shop.open(source)
        process = shop.run()
        await process.seen("ready: work")
        await shop.order(*range(30))
        await all_run(shop, set(range(30)))
        assert not refusals(process)


@pytest.mark.parametrize(
    "changes", [{"max_batch": 3}, {"max_expires": 2 * 10**9}, {"max_expires": 5 * 10**7}]
)
async def test_a_cap_that_somebody_gives_a_durable_is_kept_to(shop: Shop, changes: dict[str, int]) -> None:
    await shop.open(WORK)
    process = await shop.running("work")
    await shop.order(*range(10))
    await all_run(shop, set(range(10)))
    await edited(shop, **changes)
    process.terminate()
    await process.ended()
    await shop.order(*range(10, 40))
    process = shop.run()
    await process.seen("ready: work")
    await all_run(shop, set(range(40)))
    assert not refusals(process)
    found = (await shop.js.consumer("ORDERS", "shop-work"))["config"]
    assert changes.items() <= found.items()


async def test_a_message_larger_than_a_request_may_ask_for_is_asked_for_alone(shop: Shop) -> None:
    await shop.open(WORK)
    process = await shop.running("work")
    await shop.order(0)
    await all_run(shop, {0})
    await edited(shop, max_bytes=65_536)
    process.terminate()
    await process.ended()
    for number in range(1, 6):
        await shop.order(number, note="x" * (100_000 if number % 2 else 10))
    process = shop.run()
    await process.seen("ready: work")
    await all_run(shop, set(range(6)))
    assert not refusals(process)


async def test_a_process_whose_requests_are_all_refused_is_not_ready_and_says_so_once(shop: Shop) -> None:
    await shop.open(WORK)
    port = free_port()
    process = await shop.running("work", "--health", f"127.0.0.1:{port}")

    async def ready() -> bool:
        return (await asked(port, "/readyz"))[0] == 200

    await eventually(ready)
    await shop.js.api("CONSUMER.DELETE.ORDERS.shop-work")
    await edited_into_push(shop)

    async def unready() -> bool:
        status, text = await asked(port, "/readyz")
        return status == 503 and "work: " in text

    await eventually(unready)
    await shop.js.api("CONSUMER.DELETE.ORDERS.shop-work")
    await shop.order(1)
    await all_run(shop, {1})
    await eventually(ready)
    assert process.running


async def edited_into_push(shop: Shop) -> None:
    """A push consumer stands where the durable was."""
    made = {
        "durable_name": "shop-work",
        "name": "shop-work",
        "filter_subject": "orders.*",
        "ack_policy": "explicit",
        "deliver_subject": "push.here",
    }

    async def stands() -> bool:
        if "deliver_subject" not in (await shop.js.consumer("ORDERS", "shop-work"))["config"]:
            await shop.js.api("CONSUMER.DELETE.ORDERS.shop-work")
        body = {"stream_name": "ORDERS", "config": made, "action": "create"}
        await shop.js.api("CONSUMER.CREATE.ORDERS.shop-work", body)
        return True

    await eventually(stands)
