"""What is settled is removed from our streams by its number: not where that is another stream's by now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

from runner import consume
from runner.bindings import Binding, binding_of
from runner.config import Settings
from runner.consumers.durables import Durables
from runner.consumers.functiondurables import FunctionDurables
from runner.consumers.sentback import SentBack
from runner.core.history import Identity
from runner.jetstream import consumer, ownstreams
from runner.jetstream.connection import Connection, connect
from runner.jetstream.deadletters import DeadLetters
from runner.jetstream.delivery import Delivery
from runner.jetstream.publisher import Outgoing, PubAck
from runner.jetstream.topology import Topology
from runner.pipeline.pipeline import Pipeline
from runner.pipeline.relay import Relay
from runner.runtime.runtime import Instance, Runtime
from runner.telemetry import settings as telemetry
from runner.telemetry.tracing import Tracing
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

AGAIN = "$JETRUNNER.again.shop.charge"


def bound(ordered_by: str | None = None) -> Binding:
    @consume("orders.{customer}", ordered_by=ordered_by)
    async def charge(order: dict[str, int]) -> None:
        pass

    found = binding_of(charge)
    assert found is not None
    return found


@asynccontextmanager
async def process(url: str) -> AsyncIterator[Runtime]:
    async with connect(Settings(nats_url=url)) as connection, anyio.create_task_group() as tasks:
        for stream in (ownstreams.BUCKET_STREAM, ownstreams.AGAIN):
            await ownstreams.ensure(connection, stream)
        yield Runtime(
            Instance(project="shop", name="a", settings=Settings()),
            connection,
            Topology(connection),
            Tracing(telemetry.load({"OTEL_TRACES_EXPORTER": "none"}), "shop"),
            tasks,
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
        await js.client.request((await here.next_msg(60)).reply, b"+ACK", timeout=60)


def made_again(
    js: RawJetStream,
    connection: Connection,
    subject: str = AGAIN,
    headers: Mapping[str, str] | None = None,
    stream: str = ownstreams.AGAIN,
) -> Callable[[], Any]:
    async def make() -> None:
        await js.api(f"STREAM.DELETE.{stream}")
        await ownstreams.ensure(connection, stream)
        for number in (10, 11):
            message = {**(headers or {}), "Nats-Msg-Id": f"again-{number}"}
            # The server may drop what comes in the moment after a stream was made in the place of a removed one.
            await eventually(partial(js.publish, subject, {"n": number}, message, within=1.0))

    return make


def slowly(monkeypatch: pytest.MonkeyPatch, connection: Connection, then: Callable[[], Any]) -> None:
    """What is published is confirmed after something else has happened."""
    publish = connection.publisher.publish_surely

    async def slow(message: Outgoing, patience: float, **more: Any) -> PubAck:
        ack = await publish(message, patience, **more)
        await then()
        return ack

    monkeypatch.setattr(connection.publisher, "publish_surely", slow)


async def left(js: RawJetStream, subject: str = AGAIN, stream: str = ownstreams.AGAIN) -> list[int]:
    return [each.json()["n"] for each in await js.messages(stream, subject)]


async def test_a_function_removes_nothing_of_a_stream_made_again_while_its_floor_is_saved(
    nats_server: NatsServer, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(nats_server.url) as here:
        function = FunctionDurables(here, Pipeline(here, bound()), "ORDERS", "shop-charge")
        await function._add_again()
        await settle(js, 3)
        make, save = made_again(js, here.connection), here.floors.save

        async def slow(stream: str, durable: str, sequence: int, newest: Identity, subject: str) -> None:
            await save(stream, durable, sequence, newest, subject)
            await make()

        monkeypatch.setattr(here.floors, "save", slow)
        await function.remember()
        assert await left(js) == [10, 11]


async def test_a_function_removes_what_was_sent_back_and_is_settled(
    nats_server: NatsServer, js: RawJetStream
) -> None:
    async with process(nats_server.url) as here:
        function = FunctionDurables(here, Pipeline(here, bound()), "ORDERS", "shop-charge")
        await function._add_again()
        await settle(js, 3)
        await js.publish(AGAIN, {"n": 3})
        await function.remember()
        assert await left(js) == [3]


async def test_a_floor_that_was_read_before_the_last_acks_is_read_again(
    nats_server: NatsServer, js: RawJetStream
) -> None:
    async with process(nats_server.url) as here:
        function = FunctionDurables(here, Pipeline(here, bound()), "ORDERS", "shop-charge")
        await function._add_again()
        await js.publish(AGAIN, {"n": 0})
        asked = await js.client.subscribe(inbox := js.client.new_inbox())
        await js.client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{ownstreams.AGAIN}.shop-charge", b"1", reply=inbox
        )
        delivered = await asked.next_msg(60)
        await function.keep()
        assert await left(js) == [0], "its ack is still on its way"
        await js.client.request(delivered.reply, b"+ACK", timeout=60)
        await function.keep()
        assert await left(js) == []


async def test_an_ordered_function_removes_nothing_of_a_stream_made_again_while_it_is_looked_at(
    nats_server: NatsServer, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(nats_server.url) as here:
        connection, binding = here.connection, bound(ordered_by="customer")
        wanted = consumer.config("shop-charge", AGAIN, "all", "charge")
        await consumer.ensure(connection, ownstreams.AGAIN, wanted)
        durables = Durables(connection, here.histories, here.floors)
        sent_back = SentBack(here, binding, Pipeline(here, binding), durables)
        await settle(js, 3)
        api, make = connection.api, made_again(js, connection)
        due = [make]

        async def slow(suffix: str, *arguments: Any, **options: Any) -> dict[str, Any]:
            answer = await api(suffix, *arguments, **options)
            if suffix.startswith("CONSUMER.INFO") and due:
                await due.pop()()
            return answer

        monkeypatch.setattr(connection, "api", slow)
        await sent_back.look()
        assert not due
        assert await left(js) == [10, 11]
        await sent_back.look()  # there is more, and it is taken in

        async def taken_in() -> bool:
            return {each.json()["n"] for each in await js.messages("DEADLETTERS")} == {10, 11}

        await eventually(taken_in)


async def test_the_relay_removes_nothing_of_a_stream_made_again_while_it_publishes(
    nats_server: NatsServer, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Jetrunner-Delayed-Subject": "ledger.1", "Jetrunner-Delayed-Msg-Id": "one"}
    await js.create("LEDGER", ["ledger.*"])
    async with process(nats_server.url) as here:
        relay = Relay(here)
        came: list[Delivery] = []
        monkeypatch.setattr(relay._pull, "_deliver", came.append)
        await relay.start()
        await here.histories.of(ownstreams.AGAIN).check()
        await js.publish("$JETRUNNER.due.shop", {"n": 1}, headers)
        await eventually(lambda: came)
        slowly(monkeypatch, here.connection, made_again(js, here.connection, "$JETRUNNER.due.shop", headers))
        await relay._relay(came[0])
        assert await left(js, "$JETRUNNER.due.shop") == [10, 11]


@pytest.mark.parametrize("made", [True, False])
async def test_a_dead_letter_that_is_sent_back_is_removed_and_no_other(
    nats_server: NatsServer, js: RawJetStream, monkeypatch: pytest.MonkeyPatch, *, made: bool
) -> None:
    subject = "deadletters.shop.charge"
    named = {
        "Project": "shop",
        "Function": "charge",
        "Stream": "ORDERS",
        "Subject": "orders.1",
        "Sequence": "1",
    }
    headers = {f"Jetrunner-Dead-{name}": value for name, value in named.items()}
    async with process(nats_server.url) as here:
        connection = here.connection
        await ownstreams.ensure(connection, ownstreams.DEADLETTERS)
        await consumer.ensure(
            connection, ownstreams.AGAIN, consumer.config("shop-charge", AGAIN, "all", "charge")
        )
        await js.publish(subject, {"n": 1}, headers)
        letters = DeadLetters(connection)
        letter = await letters.get(1)
        assert letter is not None
        if made:
            stream = ownstreams.DEADLETTERS
            slowly(monkeypatch, connection, made_again(js, connection, subject, headers, stream))
        await letters.send_back(letter, letter.pairs)
        assert await left(js, AGAIN) == [1]
        assert await left(js, subject, ownstreams.DEADLETTERS) == ([10, 11] if made else [])
