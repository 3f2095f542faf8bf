"""A stream that confirms nothing (`no_ack`) takes no outputs: it is refused, or the handler's failure; nothing waits for ever."""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.support.eventually import eventually
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

STRAIGHT = """
    @consume("orders.{id}", output="paid.{id}", concurrency=1, retry=RetryPolicy.fixed(0, attempts=2))
    async def charge(order: Order) -> Order:
        note("run", id=order.id)
        return order
"""
PUBLISHED = """
    @consume("orders.{id}", concurrency=1, retry=RetryPolicy.fixed(0, attempts=2))
    async def charge(order: Order, ctx: Context) -> None:
        note("run", id=order.id)
        ctx.publish(f"paid.{order.id}", order)
"""
TWO = PUBLISHED + '        ctx.publish(f"paid.{order.id}", order)\n'
DELAYED = PUBLISHED.replace("order)", "order, delay=0.1)")
ORDERED = STRAIGHT.replace("concurrency=1", 'ordered_by="id"')


async def silence(shop: Shop, *, silent: bool = True) -> None:
    """Have the stream of outputs confirm nothing, or confirm again."""
    config = (await shop.js.stream("PAID"))["config"]
    await shop.js.api("STREAM.UPDATE.PAID", config | {"no_ack": silent})


@pytest.mark.parametrize("source", [STRAIGHT, ORDERED], ids=["plain", "ordered"])
async def test_an_output_into_a_stream_that_confirms_nothing_is_refused_at_the_start(
    shop: Shop, source: str
) -> None:
    await shop.open(source, no_ack=True)
    process = shop.run()
    assert await process.ended() == 2
    error, hint = (line for line in process.output.splitlines() if line.startswith(("error:", "hint:")))
    assert "shop.py:1" in error
    assert "charge" in error
    assert "stream PAID confirms nothing (no_ack = true)" in error
    assert "no_ack = false" in hint
    assert shop.notes("run") == []


@pytest.mark.parametrize("command", ["check", "plan"])
async def test_a_declared_stream_that_confirms_nothing_is_no_place_for_outputs(
    shop: Shop, command: str
) -> None:
    shop.write(STRAIGHT)
    shop.project.stream("orders", 'name = "ORDERS"\nsubjects = ["orders.>"]')
    shop.project.stream("paid", 'name = "PAID"\nsubjects = ["paid.>"]\nno_ack = true')
    result = shop.project.runner(command, "--output", "json", "--nats-url", shop.url)
    assert result.code == 2
    assert "charge" in result.stderr
    assert "PAID (streams/paid.toml) confirms nothing" in result.stderr


@pytest.mark.parametrize(
    "source", [STRAIGHT, PUBLISHED, TWO, ORDERED], ids=["straight", "published", "batch", "ordered"]
)
async def test_a_stream_that_ceases_to_confirm_while_running_is_the_handlers_failure(
    shop: Shop, source: str
) -> None:
    await shop.open(source)
    process = shop.run()
    await shop.order(1)
    await eventually(partial(paid, shop, 1))
    await silence(shop)
    await shop.order(2)
    letter = await shop.dead_letter(within=60)
    assert reason(letter) == "exhausted"
    assert letter.headers["Jetrunner-Dead-Error"] == "NoConfirmation"
    assert "stream PAID confirms nothing (no_ack = true)" in letter.headers["Jetrunner-Dead-Message"]
    assert [each["id"] for each in shop.notes("run")] == [1, 2, 2]
    await silence(shop, silent=False)
    await shop.order(3)
    await eventually(partial(paid, shop, 3))
    assert len(await shop.dead()) == 1
    assert process.running


async def test_a_delayed_output_to_a_stream_that_confirms_nothing_is_the_handlers_failure(shop: Shop) -> None:
    await shop.open(DELAYED, no_ack=True)
    await shop.running("charge")
    await shop.order(1)
    letter = await shop.dead_letter()
    assert letter.headers["Jetrunner-Dead-Error"] == "NoConfirmation"
    assert await shop.js.messages("PAID") == []


async def test_a_delayed_output_waits_while_its_stream_confirms_nothing_and_is_stored_once(
    shop: Shop,
) -> None:
    await shop.open(DELAYED.replace("0.1", "1.5"), duplicate_window=10**8)
    process = await shop.running("charge")

    def waits() -> bool:
        return (
            f"a delayed message to paid.{number} cannot be published yet: stream PAID con" in process.output
        )

    async def over() -> bool:
        return waits() or await shop.js.count("JETRUNNER") == 0

    for number in range(
        1, 4
    ):  # one is stored before the stream is silent where all stand still, and not three
        await silence(shop, silent=False)
        await shop.order(number)
        await shop.settled("charge")
        await silence(shop)
        await eventually(over)
        if waits():
            break
    assert waits()
    before = len(await shop.js.messages("PAID"))
    await eventually(lambda: process.output.count("PAID confirms nothing") > 1)
    assert len(await shop.js.messages("PAID")) == before
    await silence(shop, silent=False)
    await shop.settled("-relay", stream="JETRUNNER", within=60)
    found = {json.loads(each.body)["id"] for each in await shop.js.messages("PAID")}
    assert found == set(range(1, number + 1))


async def paid(shop: Shop, order: int) -> bool:
    return bool(await shop.js.messages("PAID", f"paid.{order}"))
