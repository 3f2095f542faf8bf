"""Without the right to ask how a stream is: what a runner does not do then, and what it says of that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.server.conftest import reload
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop

pytestmark = [pytest.mark.server, pytest.mark.anyio]

USERS = """authorization {{ users: [
    {{ user: all, password: a }},
    {{ user: app, password: b{} }} ] }}"""
SEEING = USERS.format("")
BLIND = USERS.format(', permissions: { publish: { deny: "$JS.API.STREAM.INFO.ORDERS" } }')
REFUSED = "the credentials do not allow to publish to $JS.API.STREAM.INFO.ORDERS"


@pytest.fixture
def server(make_server: Callable[..., NatsServer]) -> NatsServer:
    return make_server(SEEING)


@pytest.fixture
async def shop(server: NatsServer, make_project: Callable[..., Project]) -> AsyncIterator[Shop]:
    async with RawJetStream.connect(server.url_as("all", "a")) as js:
        yield Shop(js, server.url_as("app", "b"), make_project)


def charge(order: str) -> str:
    return f"""
    @consume("orders.{{id}}"{order})
    async def charge(order: Order) -> None:
        note("charge", id=order.id)
    """


@pytest.mark.parametrize("order", ["", ', ordered_by="id"'], ids=["any order", "ordered"])
async def test_a_runner_that_may_not_ask_how_its_stream_is_does_not_start(
    shop: Shop, server: NatsServer, order: str
) -> None:
    await shop.open(charge(order))
    reload(server, BLIND)
    await eventually(lambda: "Reloaded server configuration" in server.tail())
    process = shop.run()
    assert await process.ended() == 1
    assert "error: " in process.output
    assert REFUSED in process.output


@pytest.mark.parametrize("order", ["", ', ordered_by="id"'], ids=["any order", "ordered"])
async def test_one_that_may_not_any_more_goes_on_and_says_what_it_does_not_notice(
    shop: Shop, server: NatsServer, order: str
) -> None:
    await shop.open(charge(order))
    process = shop.run()
    await process.seen("ready:")
    await shop.order(1)
    await shop.noted("charge")
    reload(server, BLIND)
    await process.seen("whether the stream goes back cannot be noticed")
    await shop.order(2)
    await shop.noted("charge", 2)
    process.terminate()
    if order:
        await process.seen("shard shop-charge-0-0 is not handed over before its acks are counted")
        reload(server, SEEING)
    assert await process.ended() == 0
    (durable,) = await shop.js.consumers("ORDERS")
    await eventually(lambda: shop.js.settled("ORDERS", durable))
