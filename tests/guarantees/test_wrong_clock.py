"""Ages and delays go by the server's clock: that of the machine which runs the functions may be wrong by minutes."""

from __future__ import annotations

import time
from functools import partial

import pytest

from tests.support.eventually import eventually
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

WRONG = """
    import datetime as dates
    import runner.staged

    true = time.time

    def wrong():
        return true() + {wrong}

    class WrongDate(dates.datetime):
        @classmethod
        def now(cls, tz=None):
            return dates.datetime.fromtimestamp(wrong(), tz)

    time.time = wrong
    time.time_ns = lambda: int(wrong() * 1e9)
    runner.staged.datetime = WrongDate
"""
MINUTES = [600, -600]


@pytest.mark.parametrize("wrong", MINUTES)
@pytest.mark.parametrize("handler", ["order: Order", "order: Order, ctx: Context"])
async def test_a_message_is_as_old_as_its_server_says(shop: Shop, wrong: int, handler: str) -> None:
    await shop.open(
        WRONG.format(wrong=wrong)
        + f"""
    @consume("orders.{{id}}", max_age=4.0)
    async def charge({handler}) -> None:
        note("run", id=order.id)
    """
    )
    await shop.order(1)
    stored = time.monotonic()
    await eventually(lambda: time.monotonic() - stored > 4.1)
    await shop.running("charge")
    letter = await shop.dead_letter()
    for number in range(2, 5):  # whoever stands still for so long makes one too old, and not three
        await shop.order(number)
        await shop.settled("charge")
        if shop.notes("run"):
            break
    assert (letter.headers["Jetrunner-Dead-Reason"], letter.json()["id"]) == ("expired", 1)
    assert [each["id"] for each in shop.notes("run")] == [number]


@pytest.mark.parametrize("wrong", MINUTES)
@pytest.mark.parametrize("call", ["ctx.publish", "await ctx.state.publish"])
async def test_a_delay_is_counted_by_the_servers_clock(shop: Shop, wrong: int, call: str) -> None:
    await shop.open(
        WRONG.format(wrong=wrong)
        + f"""
    import runner

    @lifespan
    async def app():
        async with runner.connect() as app:
            yield app

    @consume("orders.{{id}}")
    async def charge(order: Order, ctx: Context) -> None:
        note("asked", when=true())
        {call}("paid.1", order, delay=2)

    @consume("paid.{{id}}")
    async def paid(order: Order, ctx: Context) -> None:
        note("paid", when=true())
    """
    )
    await shop.order(1)
    shop.run()
    (asked,), (paid,) = await shop.noted("asked"), await shop.noted("paid", within=60)
    assert 1.9 < paid["when"] - asked["when"] < 60, "not by ten minutes"


@pytest.mark.parametrize("wrong", MINUTES)
async def test_a_retry_is_due_at_the_same_time_for_the_next_owner_of_its_key(shop: Shop, wrong: int) -> None:
    """The first owner's clock is right, the second one's is not: it waits for what is left, no less and no more."""
    await shop.open(_ordered(0))
    first = shop.run()
    await shop.order(1)
    (failed,) = await shop.noted("failed")
    await eventually(partial(_on_record, shop))
    first.kill()
    shop.write(_ordered(wrong))
    shop.run()
    (done,) = await shop.noted("done", within=60)
    assert 5.9 < done["when"] - failed["when"] < 60, "not by ten minutes"


def _ordered(wrong: int) -> str:
    return (
        WRONG.format(wrong=wrong)
        + """
    @consume("orders.{id}", ordered_by="id")
    async def charge(order: Order, ctx: Context) -> None:
        if ctx.attempt == 1:
            note("failed", when=true())
            raise Retry("later", after=6)
        note("done", when=true())
    """
    )


async def _on_record(shop: Shop) -> bool:
    """Whether its failure is on record, or over already."""
    return bool(shop.notes("done") or await shop.js.messages("KV_jetrunner", "$KV.jetrunner.failures.>"))
