"""What was sent back and is settled is removed by numbers: not where these are another stream's by now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from runner import consume
from runner.bindings import Binding, binding_of
from runner.config import Settings
from runner.core.history import Identity
from runner.engine.function import Function
from runner.engine.pipeline import Pipeline
from runner.engine.process import Process
from runner.engine.sentback import SentBack
from runner.jetstream import consumer, ownstreams
from runner.jetstream.connection import Connection, connect
from runner.jetstream.topology import Topology
from runner.telemetry import settings as telemetry
from runner.telemetry.tracing import Tracing
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.timeout(60)]

AGAIN = "again.shop.charge"


def bound(ordered_by: str | None = None) -> Binding:
    @consume("orders.{customer}", ordered_by=ordered_by)
    async def charge(order: dict[str, int]) -> None:
        pass

    found = binding_of(charge)
    assert found is not None
    return found


@asynccontextmanager
async def process(url: str) -> AsyncIterator[Process]:
    async with connect(Settings(nats_url=url)) as connection, anyio.create_task_group() as tasks:
        for stream in (ownstreams.BUCKET_STREAM, ownstreams.AGAIN):
            await ownstreams.ensure(connection, stream)
        yield Process(
            project="shop",
            instance="a",
            settings=Settings(),
            connection=connection,
            topology=Topology(connection),
            tracing=Tracing(telemetry.load({"OTEL_TRACES_EXPORTER": "none"}), "shop"),
            tasks=tasks,
        )
        tasks.cancel_scope.cancel()


async def settle(js: RawJetStream, count: int) -> None:
    """What is sent back, and what any instance settles of it."""
    for number in range(count):
        await js.publish(AGAIN, {"n": number})
    inbox = js.client.new_inbox()
    here = await js.client.subscribe(inbox)
    ask = f"$JS.API.CONSUMER.MSG.NEXT.{ownstreams.AGAIN}.shop-charge"
    await js.client.publish(ask, b"%d" % count, reply=inbox)
    for _ in range(count):
        await js.client.request((await here.next_msg(5)).reply, b"+ACK")


def made_again(js: RawJetStream, connection: Connection) -> Callable[[], Any]:
    async def make() -> None:
        await js.api(f"STREAM.DELETE.{ownstreams.AGAIN}")
        await ownstreams.ensure(connection, ownstreams.AGAIN)
        for number in (10, 11):
            await js.publish(AGAIN, {"n": number})

    return make


async def left(js: RawJetStream) -> list[int]:
    return [each.json()["n"] for each in await js.messages(ownstreams.AGAIN, AGAIN)]


async def test_a_function_removes_nothing_of_a_stream_made_again_while_its_floor_is_saved(
    nats_server: NatsServer, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(nats_server.url) as here:
        function = Function(here, bound(), "ORDERS")
        await function._add_again()
        await settle(js, 3)
        make, save = made_again(js, here.connection), here.floors.save

        async def slow(stream: str, durable: str, sequence: int, newest: Identity) -> None:
            await save(stream, durable, sequence, newest)
            await make()

        monkeypatch.setattr(here.floors, "save", slow)
        await function.remember()
        assert await left(js) == [10, 11]


async def test_a_function_removes_what_was_sent_back_and_is_settled(
    nats_server: NatsServer, js: RawJetStream
) -> None:
    async with process(nats_server.url) as here:
        function = Function(here, bound(), "ORDERS")
        await function._add_again()
        await settle(js, 3)
        await js.publish(AGAIN, {"n": 3})
        await function.remember()
        assert await left(js) == [3]


async def test_an_ordered_function_removes_nothing_of_a_stream_made_again_while_it_is_looked_at(
    nats_server: NatsServer, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(nats_server.url) as here:
        connection, binding = here.connection, bound(ordered_by="customer")
        function = Function(here, binding, "ORDERS")
        wanted = consumer.config("shop-charge", AGAIN, "all", "charge")
        await consumer.ensure(connection, ownstreams.AGAIN, wanted)
        sent_back = SentBack(here, binding, Pipeline(here, binding), function._durables)
        await settle(js, 3)
        api, make = connection.api, made_again(js, connection)
        due = [make]

        async def slow(suffix: str, *arguments: Any) -> dict[str, Any]:
            answer = await api(suffix, *arguments)
            if suffix.startswith("CONSUMER.INFO") and due:
                await due.pop()()
            return answer

        monkeypatch.setattr(connection, "api", slow)
        await sent_back.look()
        assert not due
        assert await left(js) == [10, 11]
        await sent_back.look()  # there is more, and it is taken in
        await eventually(lambda: js.count("DEADLETTERS"))
        assert [each.json()["n"] for each in await js.messages("DEADLETTERS")][:1] == [10]
