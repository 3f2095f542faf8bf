"""A function takes no message older than its `max_age`, and with `deliver="new"` none from before it was first started."""

from __future__ import annotations

import time

import pytest

from tests.support.eventually import eventually
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.mark.parametrize("handler", ["order: Order", "order: Order, ctx: Context"])
async def test_a_message_past_its_max_age_is_expired_and_a_younger_one_is_handled(
    shop: Shop, handler: str
) -> None:
    await shop.open(f"""
        @consume("orders.{{id}}", max_age=1.5)
        async def charge({handler}) -> None:
            note("run", id=order.id)
    """)
    await shop.order(1)
    old = time.monotonic()
    await eventually(lambda: time.monotonic() - old > 1.6)
    await shop.order(2)
    shop.run()
    letter = await shop.dead_letter()
    await shop.settled("charge")
    assert (reason(letter), letter.json()["id"]) == ("expired", 1)
    assert [each["id"] for each in shop.notes("run")] == [2]


async def test_a_message_that_gets_too_old_between_its_retries_is_expired(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", max_age=1.5, retry=RetryPolicy.fixed(0.4, attempts=50))
        async def charge(order: Order) -> None:
            note("run")
            raise ValueError("no")
    """)
    await shop.running("charge")
    await shop.order(1)
    letter = await shop.dead_letter()
    assert reason(letter) == "expired"
    assert int(letter.headers["Jetrunner-Dead-Attempts"]) == len(shop.notes("run")) + 1
    assert 1 <= len(shop.notes("run")) <= 4


async def test_deliver_new_starts_with_what_comes_after_the_first_start_alone(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", deliver="new")
        async def charge(order: Order) -> None:
            note("run", id=order.id)

        @consume("orders.{id}")
        async def track(order: Order) -> None:
            note("all", id=order.id)
    """)
    await shop.order(1, 2)
    process = await shop.running("charge")
    await shop.order(3)
    await shop.noted("run")
    process.terminate()
    await process.ended()
    await shop.order(4)  # nobody is there: but it is no longer the first start
    shop.run()
    await shop.noted("run", 2)
    await shop.noted("all", 4)
    assert [each["id"] for each in shop.notes("run")] == [3, 4]
