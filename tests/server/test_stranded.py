"""What the server tells of messages that it gave up: which of it counts, and for how long it is heard."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from runner.config import Settings
from runner.consumers.stranded import ADVISORY, Stranded
from runner.jetstream import consumer, ownstreams
from runner.jetstream.connection import Connection, connect
from runner.runtime.runtime import Runtime
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

WANTED = consumer.config("shop-work", "orders.*", "all", "work")
OTHER = consumer.config("shop-work-also", "orders.*", "all", "work")


@pytest.fixture
async def stranded(nats_server: NatsServer, js: RawJetStream) -> AsyncIterator[Stranded]:
    await js.create("ORDERS", ["orders.>"])
    await js.create("SECRETS", ["secrets.>"])
    for number in (1, 2, 3):
        await js.publish("orders.1", {"id": number})
        await js.publish("secrets.1", {"secret": number})
    async with connect(Settings(nats_url=nats_server.url)) as connection, anyio.create_task_group() as tasks:
        await ownstreams.ensure(connection, ownstreams.AGAIN)
        for wanted in (WANTED, OTHER):
            await limited(connection, wanted)
        process = SimpleNamespace(connection=connection, project="shop", tasks=tasks)
        yield Stranded(cast("Runtime", process), "work")
        tasks.cancel_scope.cancel()


async def limited(connection: Connection, wanted: consumer.ConsumerConfig) -> None:
    info, _ = await consumer.ensure(connection, "ORDERS", wanted)
    await consumer.update(connection, "ORDERS", info["config"], {"max_deliver": (-1, 1)})


async def told(js: RawJetStream, sequence: int, durable: str = "shop-work", stream: str = "ORDERS") -> None:
    """What the server would tell, under the subject of that durable on ORDERS."""
    body = json.dumps({"stream": stream, "consumer": durable, "stream_seq": sequence}).encode()
    await js.client.publish(f"{ADVISORY}.ORDERS.{durable}", body)
    await js.client.flush()


async def sent(js: RawJetStream) -> list[Any]:
    return [each.json() for each in await js.messages(ownstreams.AGAIN, "$JETRUNNER.again.shop.work")]


async def test_what_names_another_stream_or_durable_is_not_sent(stranded: Stranded, js: RawJetStream) -> None:
    await stranded.listen(WANTED, "ORDERS")
    stranded.limited("SECRETS", "shop-work", {"max_deliver": 1})
    await told(js, 2, stream="SECRETS")
    await told(js, 1)
    await eventually(lambda: _sends(js, 1))
    assert await sent(js) == [{"id": 1}]


async def test_a_durable_that_was_left_is_heard_no_more_and_one_that_is_listened_for_twice_once(
    stranded: Stranded, js: RawJetStream, caplog: pytest.LogCaptureFixture
) -> None:
    await stranded.listen(WANTED, "ORDERS")
    await stranded.leave("ORDERS", "shop-work")
    await stranded.listen(OTHER, "ORDERS")
    await stranded.listen(OTHER, "ORDERS")
    with caplog.at_level(logging.WARNING, "jetrunner.durables"):
        await told(js, 1)
        await told(js, 2, "shop-work-also")
        await told(js, 3, "shop-work-also")
        await eventually(lambda: _sends(js, 2))
    assert await sent(js) == [{"id": 2}, {"id": 3}]
    await eventually(lambda: caplog.text.count("it runs again") >= 2)
    assert caplog.text.count("it runs again") == 2


async def _sends(js: RawJetStream, count: int) -> bool:
    return len(await sent(js)) >= count
