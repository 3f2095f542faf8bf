"""A message sent back through `$JETRUNNER.again.<project>.<function>` runs in that function alone, and looks there as it first did."""

from __future__ import annotations

import json

import pytest

from tests.support.eventually import eventually
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

TWO = """
    @consume("orders.{customer}.created", output="paid.{customer}", retry=RetryPolicy(attempts=1))
    async def charge(order: Order, customer: str, ctx: Context) -> Order:
        note("charge", id=order.id, customer=customer, subject=ctx.subject, stream=ctx.stream,
             sequence=ctx.sequence, timestamp=ctx.timestamp.isoformat(), message_id=ctx.message_id,
             attempt=ctx.attempt, headers=dict(ctx.headers))
        if not os.path.exists("bank"):
            raise ValueError("no bank")
        return order

    @consume("orders.>")
    async def track(order: Order) -> None:
        note("track", id=order.id)
"""


async def test_a_redriven_message_runs_in_its_function_alone_and_as_it_was(shop: Shop) -> None:
    await shop.open(TWO)
    await shop.order(0)
    sequence = await shop.js.publish("orders.anna.created", {"id": 7}, {"Tenant": "a"})
    stored = await shop.js.message("ORDERS", sequence)
    shop.run()
    letter = await shop.dead_letter()
    (shop.project.root / "bank").touch()
    redriven = shop.project.runner("deadletter", "redrive", "--all")
    if redriven.code != 0:
        redriven = shop.project.runner("deadletter", "redrive")
    assert redriven.code == 0, redriven.stderr
    first, again = await shop.noted("charge", 2)
    await shop.settled("charge")
    await shop.settled("charge", stream="JETRUNNER")
    for field in ("id", "customer", "subject", "stream", "sequence", "timestamp", "message_id", "attempt"):
        assert again[field] == first[field], field
    assert again["timestamp"][:19] == stored.time[:19]
    assert again["headers"]["Tenant"] == "a"
    assert not [name for name in again["headers"] if name.startswith("Jetrunner-Dead-")]
    assert [each["id"] for each in shop.notes("track")] == [0, 7]
    assert [each.subject for each in await shop.js.messages("PAID")] == ["paid.anna"]
    assert letter.headers["Jetrunner-Dead-Stream"] == "ORDERS"


async def test_outputs_of_a_redriven_message_have_the_ids_of_its_first_run(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", output="paid.{id}")
        async def charge(order: Order) -> Order:
            return order
    """)
    await shop.order(1)
    shop.run()
    await shop.settled("charge")
    stored = await shop.js.message("ORDERS", 1)
    (output,) = await shop.js.messages("PAID")
    nanoseconds = output.headers["Nats-Msg-Id"].split(".")[1].split(":")[0]
    await shop.js.publish(
        "$JETRUNNER.again.shop.charge",
        stored.body,
        {
            "Jetrunner-Origin-Stream": "ORDERS",
            "Jetrunner-Origin-Sequence": "1",
            "Jetrunner-Origin-Timestamp": nanoseconds,
            "Jetrunner-Origin-Subject": "orders.1",
        },
    )
    await eventually(lambda: _delivered(shop, 1))
    await shop.settled("charge", stream="JETRUNNER")
    assert await shop.js.count("PAID") == 1


async def test_a_redriven_message_that_fails_again_is_a_dead_letter_of_its_first_place(shop: Shop) -> None:
    await shop.open(TWO)
    await shop.js.publish("orders.anna.created", {"id": 7})
    shop.run()
    letter = await shop.dead_letter()
    origin = {
        f"Jetrunner-Origin-{name}": letter.headers[f"Jetrunner-Dead-{name}"]
        for name in ("Stream", "Sequence", "Timestamp", "Subject")
    }
    await shop.js.publish("$JETRUNNER.again.shop.charge", letter.body, origin)
    again = await shop.dead_letter(2)
    for name in ("Stream", "Sequence", "Timestamp", "Subject", "Function", "Reason", "Attempts"):
        assert again.headers[f"Jetrunner-Dead-{name}"] == letter.headers[f"Jetrunner-Dead-{name}"], name
    assert json.loads(again.body) == {"id": 7}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Jetrunner-Origin-Stream": "ORDERS"},
        {
            "Jetrunner-Origin-Stream": "OR DERS.>",
            "Jetrunner-Origin-Sequence": "-5x",
            "Jetrunner-Origin-Subject": "",
        },
        {
            "Jetrunner-Origin-Stream": "ORDERS",
            "Jetrunner-Origin-Sequence": "1",
            "Jetrunner-Origin-Timestamp": "99999999999999999999999999",
            "Jetrunner-Origin-Subject": "somewhere else",
        },
    ],
    ids=["none", "some", "nonsense", "elsewhere"],
)
async def test_whoever_writes_nonsense_there_gets_a_dead_letter_and_hurts_nobody(
    shop: Shop, headers: dict[str, str]
) -> None:
    await shop.open(TWO)
    process = await shop.running("charge")
    await shop.js.publish("$JETRUNNER.again.shop.charge", {"id": 1}, headers)
    letter = await shop.dead_letter()
    assert reason(letter) in {"undecodable", "exhausted"}
    (shop.project.root / "bank").touch()
    await shop.js.publish("orders.anna.created", {"id": 2})
    await shop.settled("charge")
    await shop.settled("charge", stream="JETRUNNER")
    assert [each.json()["id"] for each in await shop.js.messages("PAID")] == [2]
    assert process.running


async def _delivered(shop: Shop, count: int) -> bool:
    info = await shop.js.consumer("JETRUNNER", "shop-charge")
    return bool(info["delivered"]["consumer_seq"] >= count)


async def test_what_was_sent_back_is_removed_once_it_is_settled_and_not_before(shop: Shop) -> None:
    """Also what an earlier version left there; what waits, and another function's, stays."""
    await shop.open("""
        @consume("orders.{id}")
        async def charge(order: Order) -> None:
            note("run", id=order.id)
            if order.note == "wait":
                while not os.path.exists("bank"):
                    await asyncio.sleep(0.01)
    """)
    process = await shop.running("charge")
    other = await shop.js.publish("$JETRUNNER.again.shop.other", {"id": 9})
    for number in (1, 2):
        await shop.js.publish("$JETRUNNER.again.shop.charge", {"id": number})
    last = await shop.js.publish("$JETRUNNER.again.shop.charge", {"id": 3, "note": "wait"})
    await shop.js.publish("$JETRUNNER.again.shop.charge", {"id": 4})
    await shop.noted("run", 4)
    await eventually(lambda: left(shop, other, last, last + 1))
    (shop.project.root / "bank").touch()
    await shop.settled("charge", stream="JETRUNNER")
    process.terminate()
    assert await process.ended() == 0
    assert await left(shop, other)
    assert sorted(each["id"] for each in shop.notes("run")) == [1, 2, 3, 4]


async def left(shop: Shop, *sequences: int) -> bool:
    """Whether exactly these are left of what was sent back."""
    stored = await shop.js.messages("JETRUNNER", "$JETRUNNER.again.>")
    return [each.sequence for each in stored] == list(sequences)
