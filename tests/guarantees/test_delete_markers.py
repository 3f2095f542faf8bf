"""Delete markers: what the server stores in the place of a subject's last message is not a message, and is settled unrun."""

from __future__ import annotations

from functools import partial

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import ApiError, Stored
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHORT = {"Nats-TTL": "3s"}
PLAIN = """
    @consume("orders.{id}")
    async def charge(order: Order) -> None:
        note("run", id=order.id)
"""
KINDS = {
    "body alone": PLAIN,
    "raw": PLAIN.replace("order: Order", "body: bytes, id: int").replace("order.id", "id"),
    "default": PLAIN.replace("order: Order", "order: Order = Order(9)"),
    "max_age": PLAIN.replace('{id}"', '{id}", max_age=3600'),
    "thread": PLAIN.replace("async def", "def"),
    "ordered": PLAIN.replace('{id}"', '{id}", ordered_by="id"'),
}


async def open_marked(shop: Shop, source: str) -> None:
    """Open the shop with a stream of orders that leaves markers."""
    await shop.open(source)
    config = (await shop.js.stream("ORDERS"))["config"]
    marked = {"allow_msg_ttl": True, "subject_delete_marker_ttl": 3 * 10**9, "allow_rollup_hdrs": True}
    await shop.js.api("STREAM.UPDATE.ORDERS", config | marked)


async def order_shortly(shop: Shop, number: int) -> int:
    """Publish an order that is gone in a moment; the sequence of the marker that stands in its place then, as long."""
    return await shop.js.publish(f"orders.{number}", {"id": number}, SHORT) + 1


async def made(shop: Shop, sequence: int) -> list[Stored | None]:
    """The message of that sequence, None if it is gone, once it has been stored."""
    if (await shop.js.stream("ORDERS"))["state"]["last_seq"] < sequence:
        return []
    try:
        return [await shop.js.message("ORDERS", sequence)]
    except ApiError:
        return [None]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_marker_runs_nothing_and_is_no_dead_letter(shop: Shop, kind: str) -> None:
    await open_marked(shop, KINDS[kind])
    process = shop.run(JETRUNNER_LOG_LEVEL="debug")
    await shop.order(7)
    await shop.noted("run")  # it runs by now: the next one must do so before it is gone
    said = "charge: ORDERS:{} is the server's marker of a deleted message"

    async def over() -> bool:
        return said.format(sequence) in process.output or await made(shop, sequence) == [None]

    for number in range(1, 4):  # one is gone where a process stands still until then, and not three
        sequence = await order_shortly(shop, number)
        (marker,) = await eventually(partial(made, shop, sequence))
        await eventually(over)
        if marker and len(shop.notes("run")) == 2 and said.format(sequence) in process.output:
            break
    assert marker is not None
    subject = f"orders.{number}"
    assert (marker.subject, marker.body, marker.headers["Nats-Marker-Reason"]) == (subject, b"", "MaxAge")
    await shop.order(8)
    await shop.noted("run", 3)
    await shop.settled("charge-0-0" if kind == "ordered" else "charge")
    assert [each["id"] for each in shop.notes("run")] == [7, number, 8]
    assert await shop.dead() == []
    await process.seen(said.format(sequence))


async def test_a_marker_is_settled_in_its_place_in_the_order(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", ordered_by="id")
        async def charge(order: Order) -> None:
            note("run", id=order.id)
            while order.note and not os.path.exists("open"):
                await asyncio.sleep(0.01)
            note("end", id=order.id)
    """)  # fmt: skip
    shop.run()
    await shop.order(1, note="slow")
    await shop.noted("run")
    await shop.js.publish("orders.1", b"", {"Nats-Marker-Reason": "Remove"})
    await shop.order(1)
    await eventually(lambda: in_work(shop, 3))
    assert shop.notes("end") == []
    (shop.project.root / "open").touch()
    await shop.settled("charge-0-0")
    assert len(shop.notes("run")) == len(shop.notes("end")) == 2
    assert await shop.dead() == []


async def test_a_marker_of_a_parked_key_is_not_parked(shop: Shop) -> None:
    await open_marked(shop, """
        @consume("orders.{id}", ordered_by="id", on_exhausted="park")
        async def charge(order: Order) -> None:
            note("run", id=order.id)
            raise Reject("no")
    """)  # fmt: skip
    shop.run()
    await shop.order(7)
    await shop.dead_letter()
    for number in range(1, 4):  # one is gone where a process stands still until then, and not three
        await eventually(partial(made, shop, await order_shortly(shop, number)))
        if await shop.js.count("DEADLETTERS") == 2:
            break
    await shop.order(number)
    await eventually(lambda: parked(shop))
    await shop.settled("charge-0-0")
    assert [each.json()["id"] for each in await shop.js.messages("PARKED")] == [number]


async def test_what_a_client_has_marked_as_deleted_is_a_message_as_any_other(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}")
        async def charge(id: int, ctx: Context, body: bytes = b"") -> None:
            note("run", id=id, size=len(body), operation=ctx.headers["KV-Operation"])

        @consume("orders.{id}")
        async def count(order: Order) -> None: ...
    """)
    shop.run()
    await shop.js.publish("orders.1", b"", {"KV-Operation": "DEL"})
    (note,) = await shop.noted("run")
    assert (note["id"], note["size"], note["operation"]) == (1, 0, "DEL")
    assert reason(await shop.dead_letter()) == "undecodable"


async def in_work(shop: Shop, count: int) -> bool:
    return await shop.in_work("charge-0-0") == count


async def parked(shop: Shop) -> bool:
    return "PARKED" in await shop.js.streams() and bool(await shop.js.count("PARKED"))
