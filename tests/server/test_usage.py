"""Whether somebody reads a durable, on a real server: by the pull requests that wait, and by what moves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from runner.config import Settings
from runner.consumers import usage
from runner.jetstream import consumer
from runner.jetstream.connection import Connection, connect
from runner.runtime import snapshots
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

DURABLE = "shop-work"
FACTS: dict[str, Any] = {
    "stream": "ORDERS", "durable": DURABLE, "in_flight": 0, "handled": 0, "acked": 0, "failed": 0, "retried": 0,
    "rate": 0.0, "duration": [0],
}  # fmt: skip


@pytest.fixture
async def connection(nats_server: NatsServer, js: RawJetStream) -> AsyncIterator[Connection]:
    await js.create("ORDERS", ["orders.>"])
    async with connect(Settings(nats_url=nats_server.url)) as live:
        await consumer.ensure(live, "ORDERS", consumer.config(DURABLE, "orders.*", "all", "work"))
        yield live


async def asked(js: RawJetStream, reply: str, batch: int, seconds: float) -> None:
    ask = {"batch": batch, "expires": int(seconds * 1e9)}
    await js.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.ORDERS.{DURABLE}", json.dumps(ask).encode(), reply)
    await js.client.flush()


async def waiting(connection: Connection) -> int:
    info = await consumer.info(connection, "ORDERS", DURABLE)
    assert info is not None
    return int(info["num_waiting"])


async def rival(connection: Connection) -> str:
    return await usage.reader_of(connection, "shop", "work", "ORDERS", [DURABLE], me="box-1-a")


async def answering(js: RawJetStream, instance: str, **more: Any) -> None:
    """An instance says of its function what is given here."""
    told = msgspec.json.encode({"instance": instance, "since": 1.0, "functions": {"work": FACTS | more}})

    async def answer(message: Any) -> None:
        await js.client.publish(message.reply, told)

    await js.client.subscribe(snapshots.subject("shop"), cb=answer)
    await js.client.flush()


async def test_a_durable_that_is_left_alone_is_not_in_use(connection: Connection, js: RawJetStream) -> None:
    await js.publish("orders.1", {})
    assert not await usage.in_use(connection, "ORDERS", DURABLE)
    assert not await usage.in_use(connection, "ORDERS", "shop-none")
    assert await rival(connection) == ""


async def test_a_pull_request_that_waits_is_a_readers_until_its_client_has_gone(
    connection: Connection, nats_server: NatsServer
) -> None:
    async with RawJetStream.connect(nats_server.url) as other:
        await other.client.subscribe("inbox.other")
        await asked(other, "inbox.other", 1, 60)
        assert await usage.in_use(connection, "ORDERS", DURABLE)
        assert not await usage.in_use(connection, "ORDERS", DURABLE, ours=1)
        assert await rival(connection) == usage.SILENT
    await eventually(lambda: _none(connection))
    assert not await usage.in_use(connection, "ORDERS", DURABLE)


async def _none(connection: Connection) -> bool:
    return not await waiting(connection)


async def test_a_durable_that_delivers_while_it_is_looked_at_is_in_use(
    connection: Connection, js: RawJetStream
) -> None:
    before = await consumer.info(connection, "ORDERS", DURABLE)
    received = await js.client.subscribe("inbox.taken")
    await js.publish("orders.1", {})
    await asked(js, "inbox.taken", 1, 60)
    message = await received.next_msg(timeout=60)
    assert not await waiting(connection)
    assert await usage.in_use(connection, "ORDERS", DURABLE, before)
    for _ in range(3):  # whoever stands still looks too seldom, once
        look = asyncio.create_task(usage.in_use(connection, "ORDERS", DURABLE))
        await asyncio.sleep(usage.LOOK_SECONDS / 2)
        await js.client.publish(message.reply, b"+ACK")
        if await look:
            break
        await js.publish("orders.1", {})
        await asked(js, "inbox.taken", 1, 60)
        message = await received.next_msg(timeout=60)
    assert look.result()


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"ordered": False}, "box-1"),
        ({}, "box-1"),
        ({"ordered": True}, ""),
        ({"ordered": False, "durable": "another"}, ""),
    ],
    ids=["without order", "does not say", "with order", "another durable"],
)
async def test_an_instance_reads_a_durable_unless_it_keeps_order_or_names_another(
    connection: Connection, js: RawJetStream, told: dict[str, Any], found: str
) -> None:
    """An ordered function has the name of the durable without order, and reads none of that name."""
    await answering(js, "box-1", **told)

    async def is_found() -> bool:  # an answer may come after the time in which answers are collected
        return await rival(connection) == found

    await eventually(is_found)


async def test_an_instance_itself_is_not_its_own_rival(connection: Connection, js: RawJetStream) -> None:
    await answering(js, "box-1-a", ordered=False)
    assert await rival(connection) == ""
