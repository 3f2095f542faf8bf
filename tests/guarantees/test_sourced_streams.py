"""A stream that copies another one: its messages carry headers of the server's own, and end like all others."""

from __future__ import annotations

import asyncio

import pytest

from runner import connect
from tests.support.eventually import eventually
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SOURCE = "Nats-Stream-Source"


async def copied(shop: Shop, source: str) -> None:
    """Have ORDERS copy the stream RAW (`raw.<id>` becomes `orders.<id>`), and write the functions."""
    await shop.js.create("RAW", ["raw.>"])
    moved = {"src": "raw.*", "dest": "orders.{{wildcard(1)}}"}
    await shop.js.create(
        "ORDERS",
        ["orders.>"],
        allow_direct=True,
        sources=[{"name": "RAW", "subject_transforms": [moved]}],
    )
    await shop.js.create("PAID", ["paid.>"], allow_atomic=True, allow_direct=True)
    shop.write(source)


async def test_a_copied_message_that_is_rejected_becomes_a_dead_letter_after_one_run(shop: Shop) -> None:
    await copied(shop, """
        @consume("orders.{id}")
        async def charge(order: Order) -> None:
            note("run", id=order.id)
            raise Reject("no")
    """)  # fmt: skip
    await shop.running("charge")
    await shop.js.publish("raw.1", {"id": 1}, {"Tenant": "a"})
    letter = await shop.dead_letter()
    await shop.settled("charge")
    assert (reason(letter), letter.headers["Tenant"], letter.json()) == ("rejected", "a", {"id": 1})
    assert SOURCE in (await shop.js.message("ORDERS", 1)).headers
    assert SOURCE not in letter.headers
    assert [each["id"] for each in shop.notes("run")] == [1]


async def test_a_copied_message_is_parked_behind_its_key_and_runs_when_it_is_resumed(shop: Shop) -> None:
    await copied(shop, """
        @consume("orders.{id}", ordered_by="id", on_exhausted="park", retry=RetryPolicy.fixed(0, attempts=1))
        async def charge(order: Order, ctx: Context) -> None:
            note("run", id=order.id, about=order.note)
            if order.note == "bad" and not os.path.exists("mended"):
                raise ValueError("no")
    """)  # fmt: skip
    process = shop.run()
    await process.seen("ready:")
    await shop.js.publish("raw.1", {"id": 1, "note": "bad"})
    await shop.js.publish("raw.1", {"id": 1, "note": "next"})
    await shop.dead_letter()
    await eventually(lambda: shop.js.count("PARKED"))
    (parked,) = await shop.js.messages("PARKED")
    assert (parked.json()["note"], SOURCE in parked.headers) == ("next", False)
    (shop.project.root / "mended").touch()
    resumed = await asyncio.to_thread(
        shop.project.runner, "deadletter", "redrive", "--function", "charge", "--key", "1"
    )
    assert resumed.code == 0, resumed.stderr
    await shop.noted("run", 3)
    assert [each["about"] for each in shop.notes("run")] == ["bad", "bad", "next"]


async def test_a_copied_messages_headers_may_be_passed_on(shop: Shop) -> None:
    """Alone, together with others as a batch, and later."""
    await copied(shop, """
        @consume("orders.{id}", retry=RetryPolicy(attempts=1))
        async def charge(order: Order, ctx: Context) -> None:
            for part in range(order.id):
                ctx.publish("paid.now", order, headers=ctx.headers)
            ctx.publish("paid.later", order, headers=ctx.headers, delay=0.1)
    """)  # fmt: skip
    await shop.running("charge")
    await shop.js.publish("raw.1", {"id": 1}, {"Tenant": "a"})
    await shop.js.publish("raw.2", {"id": 2}, {"Tenant": "a"})
    await eventually(lambda: _count(shop, "PAID", 5))
    assert await shop.dead() == []
    copies = await shop.js.messages("PAID")
    assert {(each.headers["Tenant"], SOURCE in each.headers) for each in copies} == {("a", False)}
    assert sorted(each.subject for each in copies) == ["paid.later"] * 2 + ["paid.now"] * 3


async def _count(shop: Shop, stream: str, count: int) -> bool:
    return await shop.js.count(stream) >= count


async def test_a_copied_messages_headers_may_be_published_outside_of_functions(shop: Shop) -> None:
    await copied(shop, "")
    await shop.js.publish("raw.1", {"id": 1}, {"Tenant": "a"})
    await eventually(lambda: shop.js.count("ORDERS"))
    copy = await shop.js.message("ORDERS", 1)
    async with connect(shop.url) as app:
        await app.publish("paid.1", {"id": 1}, headers=copy.headers)
    (paid,) = await shop.js.messages("PAID")
    assert (paid.headers["Tenant"], SOURCE in paid.headers) == ("a", False)
