"""Who may do what by which permission: what the runner does not do for others, and what only permissions can close."""

from __future__ import annotations

import pytest

from tests.support.eventually import eventually
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

TARGET, MESSAGE_ID = "Jetrunner-Delayed-Subject", "Jetrunner-Delayed-Msg-Id"
CHARGE = """
    @consume("orders.{name}")
    async def charge(body: bytes, name: str, ctx: Context) -> None:
        note("charge", body=body.decode(), subject=ctx.subject)
        if body == b"long":
            await asyncio.sleep(60)
"""


def delayed(to: str, target: str) -> dict[str, str]:
    """Headers of a delayed message that comes out at once: where, and what a relay shall publish it to."""
    return {
        "Nats-Schedule": "@at 2020-01-01T00:00:00Z",
        "Nats-Schedule-Target": to,
        TARGET: target,
        MESSAGE_ID: f"forged:{target}",
    }


@pytest.mark.parametrize(
    "target",
    [
        "$JS.API.STREAM.PURGE.AUDIT",
        "$SYS.REQ.SERVER.PING",
        "$JS.ACK.ORDERS.shop-charge.1.1.1.0.0",
        "deadletters.shop.charge",
        "$JETRUNNER.again.shop.charge",
        "parked.shop.charge.a",
        "$JETRUNNER.delayed.shop.a",
        "$JETRUNNER.due.shop",
        "jetrunner.shop.members",
        "_jetrunner.PAID.shop.charge.1.0",
        "_INBOX.a.b",
        "_OWN.a.b",
        "$KV.jetrunner.claim.shop.charge.1.0",
    ],
)
async def test_a_delayed_message_goes_to_no_subject_of_the_servers_or_the_runners(
    shop: Shop, target: str
) -> None:
    """It would be published with the runner's rights, for somebody who may only publish with a delay."""
    await shop.open(CHARGE)
    process = await shop.running("charge", JETRUNNER_NATS_INBOX_PREFIX="_OWN")
    heard: list[str] = []

    async def hear(message: object) -> None:
        heard.append(getattr(message, "subject", ""))

    await shop.js.client.subscribe(target, cb=hear)
    await shop.js.publish("audit.a", "stays")
    before = {name: await shop.js.count(name) for name in ("DEADLETTERS", "PARKED", "AUDIT")}
    await shop.js.publish("$JETRUNNER.delayed.shop.x", b"0 forged", delayed("$JETRUNNER.due.shop", target))
    await process.seen("does not go there")
    await shop.settled("-relay", stream="JETRUNNER")
    assert {name: await shop.js.count(name) for name in before} == before
    assert [subject for subject in heard if subject != "$JETRUNNER.due.shop"] == []
    assert shop.notes("charge") == []


async def test_a_delayed_message_still_goes_to_a_bucket_of_the_projects(shop: Shop) -> None:
    await shop.open(CHARGE)
    await shop.js.create("KV_prices", ["$KV.prices.>"])
    await shop.running("charge")
    await shop.js.publish("$JETRUNNER.delayed.shop.x", b"7", delayed("$JETRUNNER.due.shop", "$KV.prices.a"))
    await eventually(lambda: shop.js.count("KV_prices"))


async def test_who_may_publish_with_a_delay_may_choose_any_subject_of_the_runners_stream(shop: Shop) -> None:
    """The server asks for no permission to publish to a schedule's target: `delayed.` is as much as `again.` and `due.`."""
    await shop.open(CHARGE)
    await shop.running("charge")
    await shop.js.publish(
        "$JETRUNNER.delayed.shop.x", b"forged", delayed("$JETRUNNER.again.shop.charge", "paid.a")
    )
    (note, *_) = await shop.noted("charge")
    assert note["body"] == "forged"


async def test_who_may_publish_acks_loses_messages_of_others(shop: Shop) -> None:
    """No instance can tell: its server takes the message for settled."""
    await shop.open(CHARGE)
    process = await shop.running("charge")
    await shop.js.publish("orders.a", b"long")
    await shop.noted("charge")
    info = await shop.js.consumer("ORDERS", "shop-charge")
    await shop.js.client.publish(
        f"$JS.ACK.ORDERS.shop-charge.1.1.{info['delivered']['consumer_seq']}.0.0", b"+ACK"
    )
    await shop.settled("charge")
    assert await shop.dead() == []
    assert process.running
