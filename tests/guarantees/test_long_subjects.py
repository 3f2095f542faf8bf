"""A subject that is too long for the wire makes a dead letter, not a lost connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.support.shop import Shop, reason

pytestmark = [pytest.mark.server, pytest.mark.anyio]

PASSED_ON = """
    @consume("orders.{name}", output="paid.somewhat.longer.{name}", retry=RetryPolicy.fixed(0, attempts=2))
    async def charge(order: Order) -> Order:
        note("charge", id=order.id)
        return order

    @consume("orders.{name}", output="paid.{name}.ordered", ordered_by="name", retry=RetryPolicy.fixed(0, attempts=2))
    async def post(order: Order) -> Order:
        note("post", id=order.id)
        return order

    @consume("orders.{name}", retry=RetryPolicy.fixed(0, attempts=2))
    async def later(order: Order, name: str, ctx: Context) -> None:
        note("later", id=order.id)
        await ctx.publish(f"audit.{name}", order, delay=0.1)

    @consume("orders.{name}", retry=RetryPolicy.fixed(0, attempts=2))
    async def ask(order: Order, name: str, ctx: Context) -> None:
        note("ask", id=order.id)
        if len(name) > 100:
            await ctx.request(f"nobody.{name}", b"", timeout=0.1)
"""
FUNCTIONS = ("charge", "post", "later", "ask")


async def publish_long(server: NatsServer, length: int, number: int) -> None:
    """To `orders.` and a token of so many bytes, as a client does that checks nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await reader.readline()
    body = json.dumps({"id": number}).encode()
    writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
    writer.write(b"PUB orders.%b %d\r\n%b\r\nPING\r\n" % (b"k" * length, len(body), body))
    assert await reader.readline() == b"PONG\r\n"
    writer.close()
    await writer.wait_closed()


async def dead_letters(shop: Shop) -> dict[str, int]:
    """How many there are of each function."""
    found: dict[str, int] = {}
    for letter in await shop.dead():
        assert reason(letter) == "exhausted"
        name = letter.subject.rpartition(".")[2]
        found[name] = found.get(name, 0) + 1
    return found


@pytest.mark.parametrize("wire", ["fast", "plain"])
async def test_an_output_whose_subject_is_too_long_is_a_dead_letter(
    shop: Shop, nats_server: NatsServer, wire: str
) -> None:
    await shop.open(PASSED_ON)
    process = shop.run(JETRUNNER_WIRE=wire)
    await process.seen("ready:")
    for number, length in enumerate((4_000, 4_060, 3_500, 2_999), 1):
        await publish_long(nats_server, length, number)
    await shop.order(5)
    await eventually(lambda: all(5 in {each["id"] for each in shop.notes(name)} for name in FUNCTIONS))
    expected = dict.fromkeys(FUNCTIONS, 4)
    await eventually(lambda: counted(shop, expected))
    (letter, *_) = await shop.dead()
    assert "longer than 3,000 bytes" in letter.headers["Jetrunner-Dead-Message"]
    assert process.running
    assert "lost; reconnecting" not in process.output
    await eventually(lambda: _paid(shop, 2))
    assert await shop.js.count("PAID") == 2, "those of the usual message"


async def _paid(shop: Shop, count: int) -> bool:
    return await shop.js.count("PAID") >= count


async def counted(shop: Shop, expected: dict[str, int]) -> bool:
    return await dead_letters(shop) == expected


async def test_a_server_that_takes_shorter_lines_costs_a_reconnect_and_a_dead_letter(
    make_server: Callable[..., NatsServer], make_project: Callable[..., Project]
) -> None:
    """It does not tell its limit: the first line over it ends the connection, and nats-py would close for good."""
    server = make_server("max_control_line: 1024")
    async with RawJetStream.connect(server.url) as js:
        shop = Shop(js, server.url, make_project)
        await shop.open("""
            @consume("orders.{name}", output="paid.and.a.subject.that.is.longer.than.the.input's.{name}.by.a.lot.of.bytes",
                     retry=RetryPolicy.fixed(0, attempts=4))
            async def charge(order: Order) -> Order:
                note("charge", id=order.id)
                return order
        """)
        process = shop.run()
        await process.seen("ready:")
        await publish_long(server, 960, 1)
        letter = await shop.dead_letter(within=60)
        assert reason(letter) == "exhausted"
        assert "longer than" in letter.headers["Jetrunner-Dead-Message"]
        await shop.order(2)
        await shop.settled("charge", within=60)
        assert await js.count("PAID") == 1
        assert process.running
