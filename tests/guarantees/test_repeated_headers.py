"""A header that stands in a message more than once keeps all its values: in a handler, a dead letter, and on the way back."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import Stored
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

TAGS = ["a", "b", "a"]
CHARGE = """
    @consume("orders.{id}", ordered_by="id", on_exhausted="park")
    async def charge(order: Order, ctx: Context) -> None:
        note("run", number=order.note, tags=ctx.header_values("tag"), first=ctx.headers["Tag"])
        if order.note == "1" and not os.path.exists("mended"):
            raise Reject("no")
"""


async def tagged(shop: Shop, body: str) -> None:
    """Publish an order whose header `Tag` has three values."""
    headers = [argument for tag in TAGS for argument in ("--header", f"Tag:{tag}")]
    done = await asyncio.to_thread(shop.project.runner, "publish", "orders.1", body, *headers)
    assert done.code == 0, done.stderr


def tags(message: Stored) -> list[str]:
    """Read all values of its header `Tag`."""
    lines = message.raw_headers.decode().split("\r\n")
    return [line.removeprefix("Tag: ") for line in lines if line.startswith("Tag: ")]


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
async def test_a_dead_letter_and_what_is_sent_back_keep_all_values(shop: Shop, ordered: bool) -> None:
    await shop.open(CHARGE if ordered else CHARGE.replace(', ordered_by="id", on_exhausted="park"', ""))
    shop.run()
    await tagged(shop, '{"id": 1, "note": "1"}')
    assert tags(await shop.dead_letter()) == TAGS
    if ordered:
        await tagged(shop, '{"id": 1, "note": "2"}')
        (copy,) = await eventually(lambda: shop.js.messages("PARKED"))
        assert tags(copy) == TAGS
    (shop.project.root / "mended").touch()
    which = ("--key", "1") if ordered else ("--all",)
    done = await asyncio.to_thread(shop.project.runner, "deadletter", "redrive", *which)
    assert done.code == 0, done.stderr
    runs = await shop.noted("run", 3 if ordered else 2)
    assert [(each["tags"], each["first"]) for each in runs] == [(TAGS, "a")] * len(runs)


async def test_a_key_that_goes_on_without_its_head_keeps_all_values_of_what_was_parked(shop: Shop) -> None:
    await shop.open(CHARGE)
    shop.run()
    await tagged(shop, '{"id": 1, "note": "1"}')
    await shop.dead_letter()
    await tagged(shop, '{"id": 1, "note": "2"}')
    await eventually(lambda: shop.js.messages("PARKED"))
    done = await asyncio.to_thread(shop.project.runner, "parked", "skip", "1")
    assert done.code == 0, done.stderr
    runs = await shop.noted("run", 2)
    assert [(each["number"], each["tags"]) for each in runs] == [("1", TAGS), ("2", TAGS)]
