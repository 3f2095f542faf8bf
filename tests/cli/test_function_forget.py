"""`runner function forget`: what a function that is gone has left on the server is counted, and removed for good."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = """
    @consume("orders.{{id}}", ordered_by="id", retry=RetryPolicy(attempts=1), on_exhausted="park")
    async def ship(order: Order) -> None:
        raise RuntimeError("broken")

    @consume("orders.{{id}}"{options})
    async def shipping(order: Order) -> None:
        note("shipping", id=order.id)
"""
REST = """
    @consume("orders.{id}")
    async def shipping(order: Order) -> None:
        note("shipping", id=order.id)
"""


@pytest.fixture
async def shop(nats_server: NatsServer, js: RawJetStream, make_project: Callable[..., Project]) -> Shop:
    found = Shop(js, nats_server.url, make_project)
    await found.open(SOURCE.format(options=""))
    process = found.run()
    await found.order(1)
    await found.dead_letter()
    await found.order(1)
    await eventually(lambda: parked(found))
    await found.settled("shipping")
    process.terminate()
    await process.ended()
    return found


async def parked(shop: Shop) -> bool:
    return bool(await shop.js.messages("PARKED"))


async def of_ship(shop: Shop) -> list[str]:
    """Every durable, key and message that is of the function `ship`."""
    found = [name for name in await shop.js.consumers("ORDERS") if name.startswith("shop-ship-")]
    for stream in await shop.js.streams():
        if stream not in ("ORDERS", "PAID", "AUDIT"):
            found += [each.subject for each in await shop.js.messages(stream)]
    return [each for each in found if ".ship" in each or "shop-ship-" in each]


async def test_all_that_is_left_goes_and_what_others_have_stays(shop: Shop) -> None:
    shop.write(REST)
    kept = [
        each.subject for each in await shop.js.messages("KV_jetrunner") if "shop-shipping" in each.subject
    ]
    assert kept
    status = shop.project.runner("status").stderr
    assert (
        "ship is not a function of this project, and no instance runs it: 0 to run, 1 parked, 1 dead letter\n"
        in status
    )
    assert "runner function forget ship" in status
    assert "runner function forget ship" in shop.project.runner("parked", "retry", "1").stderr
    before = await of_ship(shop)
    told = shop.project.json("function", "forget", "ship", "--dry-run")
    assert (told["removed"], told["parked"], told["dead_letters"]) == (False, 1, 1)
    refused = shop.project.runner("function", "forget", "ship")
    assert (refused.code, "1 parked, 1 dead letter" in refused.stderr) == (2, True)
    assert await of_ship(shop) == before
    done = shop.project.runner("function", "forget", "ship", "--yes")
    assert done.code == 0, done.stderr
    assert "removed 1 durable with 0 messages to run, 1 parked, 1 dead letter" in done.stdout
    assert [each for each in await of_ship(shop) if "shipping" not in each] == []
    left = [
        each.subject for each in await shop.js.messages("KV_jetrunner") if "shop-shipping" in each.subject
    ]
    assert left == kept
    assert "ship" not in [each["function"] for each in shop.project.json("status")["functions"]]
    again = shop.project.runner("function", "forget", "ship", "--yes")
    assert (again.code, "holds nothing of a function ship" in again.stderr) == (2, True)


async def test_what_is_there_is_not_forgotten(shop: Shop) -> None:
    before = await of_ship(shop)
    in_code = shop.project.runner("function", "forget", "ship", "--yes")
    assert (in_code.code, "ship is a function of shop" in in_code.stderr) == (2, True)
    process = shop.run()
    await process.seen("ready: ")
    shop.write(REST)
    runs = shop.project.runner("function", "forget", "ship", "--yes")
    assert (runs.code, "error: ship runs in " in runs.stderr) == (1, True)
    process.terminate()
    await process.ended()
    shop.write("this is no Python")
    unknown = shop.project.runner("function", "forget", "ship", "--yes")
    assert (unknown.code, "cannot be imported" in unknown.stderr) == (2, True)
    assert [each for each in before if each not in await of_ship(shop) and "claim." not in each] == []
