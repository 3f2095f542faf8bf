"""Work that a handler returns is done before its message is acknowledged, or its attempt has failed."""

from __future__ import annotations

import pytest

from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

WORK = """
    import types
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)

    async def work(order):
        await asyncio.sleep(0.2)
        note("done", id=order.id)
        if order.note:
            raise ValueError(order.note)
        return {"id": order.id}

    def slowly(order):
        time.sleep(0.2)
        note("done", id=order.id)
        if order.note:
            raise ValueError(order.note)
        return {"id": order.id}

    async def in_two_steps(order):
        return work(order)

    @types.coroutine
    def old(order):
        return (yield from work(order).__await__())

    def items(order):
        note("done", id=order.id)
        yield {"id": order.id}

    async def later(order):
        note("done", id=order.id)
        yield {"id": order.id}

    class Itself:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return self
"""
RETURNED = [
    "work(order)",
    "in_two_steps(order)",
    "asyncio.ensure_future(work(order))",
    "asyncio.gather(work(order))",
    "old(order)",
    "pool.submit(slowly, order)",
]
HANDLERS = ["async def charge(order: Order):", "async def charge(order: Order, ctx: Context):"]


def source(handler: str, returned: str, option: str = "") -> str:
    return (
        WORK
        + f"""
    @consume("orders.{{id}}", retry=RetryPolicy.fixed(0.01, attempts=2){option})
    {handler}
        return {returned}
    """
    )


@pytest.mark.parametrize("option", ["", ', output="paid.{id}"'], ids=["no output", "output"])
async def test_an_awaitable_that_is_returned_is_awaited(shop: Shop, option: str) -> None:
    functions = "".join(
        f"""
    @consume("orders.{{id}}", name="charge_{number}_{at}"{option})
    {handler}
        note("begun")
        return {returned}
    """
        for number, returned in enumerate(RETURNED)
        for at, handler in enumerate(HANDLERS)
    ) + "".join(
        f"""
    @consume("orders.{{id}}", name="charge_thread_{number}"{option})
    def charge(order: Order):
        note("begun")
        return {returned}
    """
        for number, returned in enumerate(RETURNED)
        if "asyncio" not in returned
    )
    await shop.open(WORK + functions)
    await shop.order(1)
    shop.run()
    count = len(RETURNED) * 2 + 4
    await shop.noted("done", count)
    for name in [f"charge_{n}_{at}" for n in range(len(RETURNED)) for at in range(2)]:
        await shop.settled(name)
    for n, returned in enumerate(RETURNED):
        if "asyncio" not in returned:
            await shop.settled(f"charge_thread_{n}")
    assert len(shop.notes("done")) == count == len(shop.notes("begun"))
    assert await shop.dead() == []
    if option:
        paid = [each.json() for each in await shop.js.messages("PAID")]
        assert paid.count({"id": 1}) + paid.count([{"id": 1}]) == count


@pytest.mark.parametrize("handler", [*HANDLERS, "def charge(order: Order):"])
async def test_what_the_awaitable_raises_fails_the_attempt(shop: Shop, handler: str) -> None:
    await shop.open(source(handler, "work(order)"))
    await shop.order(1, note="no money")
    shop.run()
    letter = await shop.dead_letter()
    assert reason(letter) == "exhausted"
    assert "no money" in letter.headers["Jetrunner-Dead-Message"]
    assert len(shop.notes("done")) == 2


@pytest.mark.parametrize("handler", HANDLERS)
async def test_an_awaitable_that_takes_too_long_times_out(shop: Shop, handler: str) -> None:
    await shop.open(source(handler, "asyncio.ensure_future(asyncio.sleep(60))", ", timeout=0.3"))
    await shop.order(1)
    shop.run()
    assert reason(await shop.dead_letter()) == "timeout"


@pytest.mark.parametrize("returned", ["items(order)", "later(order)", "Itself()"])
@pytest.mark.parametrize("handler", [*HANDLERS, "def charge(order: Order):"])
async def test_what_nothing_would_run_fails_the_attempt(shop: Shop, handler: str, returned: str) -> None:
    await shop.open(source(handler, returned))
    await shop.order(1)
    shop.run()
    letter = await shop.dead_letter()
    assert reason(letter) == "exhausted"
    assert "the handler returned a" in letter.headers["Jetrunner-Dead-Message"]
    assert shop.notes("done") == []
