"""Each attempt starts in the context as the lifespan left it: what one message binds, no other sees."""

from __future__ import annotations

import pytest

from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

VARIABLES = """
    from contextvars import ContextVar

    tenant = ContextVar("tenant", default="nothing")
    place = ContextVar("place", default="nowhere")

    class Odd:
        def __eq__(self, other):
            raise ValueError("cannot be compared")
        __hash__ = None

    @lifespan
    async def shop():
        place.set("shop")
        yield None

"""
HANDLERS = {
    "the straight way": "async def charge(order: Order) -> None:",
    "with its context": "async def charge(order: Order, ctx: Context) -> None:",
    "in a thread": "def charge(order: Order) -> None:",
}


@pytest.mark.parametrize("bound", ['f"t{order.id}"', "Odd()"])
@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
@pytest.mark.parametrize("end", ["pass", 'raise ValueError("once more")'])
async def test_a_variable_that_one_message_binds_is_seen_by_no_other(
    shop: Shop, handler: str, bound: str, end: str
) -> None:
    await shop.open(
        VARIABLES
        + f"""
    @consume("orders.{{id}}", concurrency=2, retry=RetryPolicy.fixed(0.01, attempts=2))
    {handler}
        note("seen", tenant=str(tenant.get()), place=str(place.get()))
        tenant.set({bound})
        place.set({bound})
        {end}
    """
    )
    await shop.order(*range(30))
    shop.run()
    await shop.settled("charge")
    seen = shop.notes("seen")
    assert len(seen) == (30 if end == "pass" else 60)
    assert {(each["tenant"], each["place"]) for each in seen} == {("nothing", "shop")}


async def test_a_variable_bound_while_the_body_is_decoded_is_seen_by_no_other(shop: Shop) -> None:
    await shop.open(
        VARIABLES
        + """
    class Marked(Struct):
        id: int

        def __post_init__(self) -> None:
            note("seen", tenant=tenant.get())
            tenant.set(f"t{self.id}")
            if self.id % 2:
                raise ValueError("odd")

    @consume("orders.{id}", concurrency=1)
    async def charge(order: Marked) -> None:
        note("seen", tenant=tenant.get()[:1])
    """
    )
    await shop.order(*range(20))
    shop.run()
    await shop.settled("charge")
    assert sorted(each["tenant"] for each in shop.notes("seen")) == ["nothing"] * 20 + ["t"] * 10


async def test_a_stop_waits_for_what_runs_in_the_slot_that_followed(shop: Shop) -> None:
    """A slot that ends for what its handler bound is followed by one that drains like the first."""
    await shop.open(
        VARIABLES
        + """
    @consume("orders.{id}", concurrency=1)
    async def charge(order: Order) -> None:
        tenant.set("mine")
        note("start", id=order.id)
        await asyncio.sleep(0.5 if order.id else 0)
        note("end", id=order.id)
    """
    )
    await shop.order(0, 1)
    runner = shop.run()
    await shop.noted("start", 2)
    runner.terminate()
    assert await runner.ended() == 0
    assert [each["id"] for each in shop.notes("end")] == [0, 1]
    await shop.settled("charge")  # the server counts acks a moment after they have come
