"""What a function has done is kept under a name that does not change, and outlives even the durable of that name."""

from __future__ import annotations

import pytest

from tests.support.eventually import eventually
from tests.support.project import Project
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

NOTING = """
    @consume("orders.{id}")
    async def charge(order: Order) -> None:
        note("run", id=order.id)
"""


async def test_names_on_the_wire_are_those_of_the_contract(shop: Shop) -> None:
    shop.project = shop.make_project(name="my.shop_1", nats=shop.url)
    await shop.open("""
        @consume("orders.{id}")
        async def charge(order: Order) -> None:
            raise Reject("no")

        @consume("orders.{id}", name="second", durable="chosen")
        async def other(order: Order) -> None: ...
    """)
    shop.run()
    await eventually(lambda: _has(shop, "my-shop_1-second"))
    await shop.order(1)
    letter = await shop.dead_letter()
    assert letter.subject == "deadletters.my-shop_1.charge"
    await eventually(lambda: _has(shop, "my-shop_1-charge"))
    await eventually(lambda: _has(shop, "chosen", stream="ORDERS"))
    assert await shop.js.consumers("ORDERS") == ["chosen", "my-shop_1-charge"]
    assert (await shop.js.stream("JETRUNNER"))["config"]["max_age"] == 0
    dead = (await shop.js.stream("DEADLETTERS"))["config"]
    assert (dead["retention"], dead["max_age"]) == ("limits", 30 * 24 * 3600 * 10**9)


async def test_a_restart_goes_on_where_it_was(shop: Shop) -> None:
    await shop.open(NOTING)
    await shop.order(1, 2)
    process = shop.run()
    await shop.settled("charge")
    process.terminate()
    await process.ended()
    await shop.order(3)
    shop.run()
    await shop.noted("run", 3)
    await shop.settled("charge")
    assert [each["id"] for each in shop.notes("run")] == [1, 2, 3]


async def test_a_durable_deleted_while_nobody_runs_goes_on_at_its_floor(shop: Shop) -> None:
    await shop.open(NOTING)
    process = await shop.running("charge")
    await shop.order(*range(20))
    await shop.noted("run", 20)
    await shop.settled("charge")
    process.terminate()
    await process.ended()
    await shop.js.api("CONSUMER.DELETE.ORDERS.shop-charge")
    await shop.order(100)
    shop.run()
    await shop.noted("run", 21)
    await shop.settled("charge")
    assert [each["id"] for each in shop.notes("run")] == [*range(20), 100]


async def test_a_durable_that_starts_at_new_messages_forgets_none_that_came_since(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", deliver="new")
        async def charge(order: Order) -> None:
            note("run", id=order.id)
            while order.id == 1 and not os.path.exists("open"):
                await asyncio.sleep(0.01)
    """)
    process = await shop.running("charge")
    await eventually(lambda: _floor_known(shop))
    await shop.order(1)
    await shop.noted("run")
    process.kill()  # the stream was empty before, and nothing is settled yet
    (shop.project.root / "open").touch()
    await shop.js.api("CONSUMER.DELETE.ORDERS.shop-charge")
    await shop.order(2)
    shop.run()
    await shop.settled("charge")
    assert sorted(each["id"] for each in shop.notes("run")) == [1, 1, 2]


async def test_a_durable_that_differs_is_explained_and_then_updated(shop: Shop) -> None:
    await shop.open(NOTING)
    process = await shop.running("charge")
    process.terminate()
    await process.ended()
    config = (await shop.js.consumer("ORDERS", "shop-charge"))["config"]
    config |= {"max_ack_pending": 5, "ack_wait": 99 * 10**9}
    await shop.js.api(
        "CONSUMER.CREATE.ORDERS.shop-charge",
        {"stream_name": "ORDERS", "config": config, "action": "update"},
    )
    process = await shop.running("charge")
    await process.seen("max_ack_pending changes from 5 to -1")
    now = (await shop.js.consumer("ORDERS", "shop-charge"))["config"]
    assert (now["max_ack_pending"], now["ack_wait"]) == (-1, 10 * 10**9)


async def test_two_projects_on_one_server_do_not_see_each_other(shop: Shop) -> None:
    await shop.open(NOTING)
    other: Project = shop.make_project(name="other", nats=shop.url)
    other.function("shop", (shop.project.root / "functions" / "shop.py").read_text())
    await shop.order(1)
    shop.run()
    other.start("run")
    await shop.noted("run")
    await eventually(lambda: other.journal("run"))
    assert await shop.js.consumers("ORDERS") == ["other-charge", "shop-charge"]


async def _has(shop: Shop, durable: str, *, stream: str = "JETRUNNER") -> bool:
    return durable in await shop.js.consumers(stream)


async def _floor_known(shop: Shop) -> bool:
    return bool(await shop.js.messages("KV_jetrunner", "$KV.jetrunner.floor.shop.ORDERS.shop-charge"))
