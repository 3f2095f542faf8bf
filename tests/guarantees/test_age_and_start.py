"""A function takes no message older than its `max_age`, and with `deliver="new"` none from before it was first started."""

from __future__ import annotations

import time

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import Stored
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
    await shop.run().seen("ready")
    letter = await shop.dead_letter()
    for number in range(2, 5):  # whoever stands still for so long makes one too old, and not three
        await shop.order(number)
        await shop.settled("charge")
        if shop.notes("run"):
            break
    assert (reason(letter), letter.json()["id"]) == ("expired", 1)
    assert dead(letter, "Attempts", "Error") == ("0", "Expired")
    assert "over the function's max_age of 1.5 s" in letter.headers["Jetrunner-Dead-Message"]
    assert [each["id"] for each in shop.notes("run")] == [number]


ORDER = pytest.mark.parametrize("order", ["", ', ordered_by="id"'], ids=["unordered", "ordered"])


def dead(letter: Stored, *names: str) -> tuple[str, ...]:
    return tuple(letter.headers[f"Jetrunner-Dead-{name}"] for name in names)


@ORDER
async def test_a_message_that_gets_too_old_between_its_retries_is_expired(shop: Shop, order: str) -> None:
    await shop.open(f"""
        @consume("orders.{{id}}", max_age=1.5, retry=RetryPolicy.fixed(0.4, attempts=50){order})
        async def charge(order: Order) -> None:
            note("run")
            raise ValueError("no bank")
    """)
    await shop.run().seen("ready")
    for number in range(
        1, 4
    ):  # whoever stands still for so long makes one too old before it runs, and not three
        before = len(shop.notes("run"))
        await shop.order(number)
        letter = await shop.dead_letter(number)
        if len(shop.notes("run")) > before:
            break
    runs = len(shop.notes("run")) - before
    assert dead(letter, "Reason", "Error", "Attempts") == ("expired", "ValueError", str(runs))
    assert letter.headers["Jetrunner-Dead-Message"].startswith("no bank (")
    assert "raise ValueError" in letter.headers["Jetrunner-Dead-Traceback"]
    assert 1 <= runs <= 4


@ORDER
async def test_a_retry_that_would_come_too_late_is_not_waited_for(shop: Shop, order: str) -> None:
    await shop.open(f"""
        @consume("orders.{{id}}", max_age=600, retry=RetryPolicy.fixed(0.01, attempts=5){order})
        async def charge(order: Order, ctx: Context) -> None:
            if ctx.attempt == 1:
                raise ValueError("no bank")
            raise Retry("bank is closed", after=3600)
    """)
    await shop.run().seen("ready")
    await shop.order(1)
    letter = await shop.dead_letter()
    assert dead(letter, "Reason", "Error", "Attempts") == ("expired", "Retry", "2")
    assert letter.headers["Jetrunner-Dead-Message"] == (
        "bank is closed (a retry in 3.6e+03 s would be past the function's max_age)"
    )


@ORDER
async def test_the_last_error_is_kept_for_the_process_that_finds_the_message_too_old(
    shop: Shop, order: str
) -> None:
    await shop.open(f"""
        @consume("orders.{{id}}", max_age=3.0, retry=RetryPolicy.fixed(1.5, attempts=50){order})
        async def charge(order: Order) -> None:
            note("run", id=order.id)
            raise ValueError("no bank")
    """)
    process = shop.run()
    await process.seen("ready")

    def waits() -> bool:
        return "failed; retrying in" in process.output

    async def over() -> bool:
        return waits() or await shop.js.count("DEADLETTERS") >= number

    for number in range(1, 4):  # one that runs late is given up at once, and not three are
        await shop.order(number)
        sent = time.monotonic()
        await eventually(over)
        if waits():
            break
    assert waits()
    process.terminate()
    await process.ended()
    await eventually(lambda: time.monotonic() - sent > 3.1)
    shop.run()
    letter = await shop.dead_letter(number)
    runs = sum(each["id"] == number for each in shop.notes("run"))
    assert dead(letter, "Reason", "Error", "Attempts") == ("expired", "ValueError", str(runs))
    assert letter.headers["Jetrunner-Dead-Message"].startswith("no bank (")
    assert "raise ValueError" in letter.headers["Jetrunner-Dead-Traceback"]
    await eventually(lambda: nothing_noted(shop))


async def test_what_succeeds_in_the_end_leaves_no_error_behind(shop: Shop) -> None:
    await shop.open("""
        @consume("orders.{id}", max_age=60, retry=RetryPolicy.fixed(0.3, attempts=5))
        async def charge(order: Order, ctx: Context) -> None:
            note("run")
            if ctx.attempt < 2:
                raise ValueError("no bank")
            while not os.path.exists("open"):
                await asyncio.sleep(0.01)
    """)
    await shop.run().seen("ready")
    await shop.order(1)
    await shop.noted("run")
    await eventually(lambda: noted(shop))
    (shop.project.root / "open").touch()
    await shop.settled("charge")
    await eventually(lambda: nothing_noted(shop))
    assert len(shop.notes("run")) == 2


async def noted(shop: Shop) -> bool:
    return bool(await shop.js.messages("KV_jetrunner", "$KV.jetrunner.error.>"))


async def nothing_noted(shop: Shop) -> bool:
    return not await noted(shop)


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
