"""The pull engine on a real server: its window, what it asks again for, and what it does when its consumer is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from nats.aio.msg import Msg

from runner.config import Settings
from runner.jetstream import consumer, pull, withheld
from runner.jetstream.connection import Connection, connect
from runner.jetstream.delivery import Delivery
from runner.jetstream.inflight import InFlight
from runner.jetstream.pull import Pull
from runner.jetstream.reader import abort
from runner.jetstream.weight import AHEAD_EXPIRES_SECONDS
from tests.server.conftest import Connects
from tests.support.cluster import Cluster
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.links import linked_cluster
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's patience with a message: what comes again before that was not waited for."""
    monkeypatch.setattr(consumer, "ACK_WAIT_SECONDS", 60.0)


class Reader:
    """A pull of one durable on `orders.>` that keeps what arrives; a test settles it."""

    def __init__(
        self, connection: Connection, limit: int, deliver: Callable[[Delivery], None] | None, ahead: int = 0
    ) -> None:
        self.connection = connection
        self.arrived: list[Delivery] = []
        self.missing = 0
        self._deliver = deliver
        self.pull = Pull(connection, "ORDERS", "shop-charge", limit, self._take, self._gone, ahead)

    def _take(self, delivery: Delivery) -> None:
        self.arrived.append(delivery)
        if self._deliver is not None:
            self._deliver(delivery)

    def _gone(self) -> None:
        self.missing += 1

    async def ensure(self) -> None:
        wanted = consumer.config("shop-charge", "orders.>", "all", "charge")
        await consumer.ensure(self.connection, "ORDERS", wanted)

    async def watch(self) -> None:
        while True:
            self.pull.watch(time.monotonic())
            await asyncio.sleep(0.05)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.arrived]


@asynccontextmanager
async def reading(
    connection: Connection,
    *,
    limit: int = 10,
    deliver: Callable[[Delivery], None] | None = None,
    ahead: int = 0,
) -> AsyncIterator[Reader]:
    """A reader at work."""
    reader = Reader(connection, limit, deliver, ahead)
    await reader.ensure()
    async with anyio.create_task_group() as tasks:
        await reader.pull.open()
        tasks.start_soon(reader.watch)
        yield reader
        tasks.cancel_scope.cancel()


def acknowledge(delivery: Delivery) -> None:
    delivery.source.settle(delivery, b"+ACK")


def arrived(reader: Reader, count: int) -> bool:
    return len(reader.arrived) >= count


async def fill(js: RawJetStream, count: int) -> None:
    await asyncio.gather(*[js.publish("orders.1", b"%d" % number) for number in range(count)])


async def test_every_message_arrives_once_and_is_settled(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.>"])
    await fill(js, 500)
    async with connected(nats_server.url) as connection, reading(connection, deliver=acknowledge) as reader:
        await eventually(lambda: js.settled("ORDERS", "shop-charge"))
        assert sorted(map(int, reader.bodies)) == list(range(500))
        assert [delivery.sequence for delivery in reader.arrived] == list(range(1, 501))


async def test_no_more_is_in_work_than_the_limit_allows_after_a_long_trickle(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server beats only when it has nothing to send: a trickle must not be taken for silence, and asked for again.
    monkeypatch.setattr(pull, "HEARTBEAT_SECONDS", 1.0)  # and a busy server not either
    for _ in range(3):  # a server that stands still for two heartbeats is silent: once
        await js.create("ORDERS", ["orders.>"])
        async with connected(nats_server.url) as connection, reading(connection, limit=8) as reader:
            for number in range(60):  # for longer than two heartbeats
                await fill(js, 1)
                await eventually(partial(arrived, reader, number + 1))
                acknowledge(reader.arrived[number])
                await asyncio.sleep(0.05)
            await fill(js, 100)
            await eventually(partial(arrived, reader, 68))
            await asyncio.sleep(0.3)  # what was asked for twice would have come by now
            in_work = len(reader.pull.unsettled)
        await js.api("STREAM.DELETE.ORDERS")
        if in_work == 8:
            break
    assert in_work == 8


async def test_a_message_that_comes_again_while_it_is_in_work_is_not_another_one(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.>"])
    await fill(js, 3)
    async with connected(nats_server.url) as connection, reading(connection) as reader:
        await eventually(lambda: len(reader.arrived) == 3)
        first = reader.arrived[0]
        reply = first.reply
        connection.wire.answer(reply, b"-NAK")  # not ours: as if the server had lost patience
        await eventually(lambda: first.reply != reply)
        assert len(reader.arrived) == 3
        for delivery in reader.arrived:
            acknowledge(delivery)
        await eventually(lambda: js.settled("ORDERS", "shop-charge"))


async def test_what_comes_again_by_a_request_that_was_written_off_does_not_keep_the_pull_from_asking(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    async def waiting(requests: int) -> bool:
        return int((await js.consumer("ORDERS", "shop-charge"))["num_waiting"]) == requests

    def renewed(reader: Reader, before: set[bytes]) -> bool:
        return not before & {delivery.reply for delivery in reader.arrived}

    await js.create("ORDERS", ["orders.>"])
    await fill(js, 4)
    async with connected(nats_server.url) as connection, reading(connection, limit=10) as reader:
        await eventually(partial(arrived, reader, 4))
        reader.pull.ask_again()  # the server holds the first request for 6 more messages, and this one for 6
        await eventually(partial(waiting, 2))
        for _ in range(3):  # 12 deliveries: the server holds no request of before
            before = {delivery.reply for delivery in reader.arrived}
            for reply in before:
                connection.wire.answer(reply, b"-NAK")  # not ours: as if the server had lost patience
            await eventually(partial(renewed, reader, before))
        await fill(js, 4)
        await eventually(partial(arrived, reader, 8))


@pytest.mark.usefixtures("minute")
@pytest.mark.parametrize("how", ["kill", "cut", "freeze"])
async def test_it_goes_on_where_it_was_after_an_outage(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, how: str
) -> None:
    await js.create("ORDERS", ["orders.>"])
    async with (
        Proxy.to(nats_server.port) as proxy,
        connected(proxy.url) as connection,
        reading(connection, deliver=acknowledge) as reader,
    ):
        await fill(js, 20)
        await eventually(lambda: len(reader.arrived) == 20)
        lost = connection.wire.epoch + 1
        match how:
            case "kill":
                await asyncio.to_thread(nats_server.restart, kill=True)
            case "cut":
                await proxy.cut()
            case "freeze":
                proxy.freeze()
                await fill(js, 20)
                proxy.thaw()
        # What the server sends into a connection that is cut, before either side has noticed, comes again after ack_wait alone.
        await eventually(
            lambda: connection.is_connected and (how == "freeze" or connection.wire.epoch >= lost)
        )
        await fill(js, 20)
        expected = set(range(1, 61 if how == "freeze" else 41))
        await eventually(lambda: {delivery.sequence for delivery in reader.arrived} == expected, within=50)


async def test_the_window_holds_however_often_the_connection_was_cut(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "EXPIRES_SECONDS", 2.0)
    monkeypatch.setattr(pull, "HEARTBEAT_SECONDS", 0.5)
    await js.create("ORDERS", ["orders.>"])

    async def asked_once() -> bool:
        return int((await js.consumer("ORDERS", "shop-charge"))["num_waiting"]) == 1

    async with connected(nats_server.url) as connection, reading(connection) as reader:
        reader.pull.patience = 30.0  # a busy machine is silent for a second, and the pull would ask again

        def again(
            lost: int,
        ) -> bool:  # and it has asked on the new connection: the server holds two requests then
            return reader.pull._epoch == connection.wire.epoch == lost and connection.is_connected

        for _ in range(3):  # the server keeps each lost connection's request, since its inbox is there again
            await eventually(asked_once)
            lost = connection.wire.epoch + 1
            abort(connection.client)
            await eventually(partial(again, lost))
        # The server may still read the newest request when it counts one: that of the last lost connection, which ends by itself.
        await anyio.sleep(pull.EXPIRES_SECONDS + 0.5)
        await eventually(asked_once)
        await fill(js, 50)
        await eventually(lambda: len(reader.arrived) >= 10)
        await anyio.sleep(0.2)
        assert len(reader.arrived) == 10


@pytest.mark.usefixtures("minute")
async def test_a_retry_during_a_short_loss_of_the_connection_comes_after_its_own_delay(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withheld, "NAKS_SECONDS", 5.0)  # a busy machine may take its time
    await js.create("ORDERS", ["orders.>"])
    await fill(js, 1)
    async with connected(nats_server.url) as connection, reading(connection) as reader:
        await eventually(lambda: arrived(reader, 1))
        first, lost = reader.arrived[0], connection.wire.epoch + 1
        reader.pull.silence()
        abort(connection.client)
        await reader.pull.again(first, 0.1)
        await eventually(lambda: connection.wire.epoch >= lost and connection.is_connected)
        reader.pull.confirm()
        await eventually(lambda: arrived(reader, 2), within=50)
        assert (reader.arrived[1].sequence, reader.arrived[1].attempt) == (first.sequence, 2)


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def blocking() -> AsyncIterator[None]:
    """Handlers that block the loop for longer than half a second, one after the other."""

    async def block() -> None:
        while True:
            time.sleep(pull.STOOD_SECONDS + 0.1)  # noqa: ASYNC251  that is the fault
            await asyncio.sleep(0.01)

    blocked = asyncio.create_task(block())
    try:
        yield
    finally:
        blocked.cancel()


@pytest.mark.parametrize("beside", [nothing, blocking], ids=["alone", "beside what blocks the loop"])
async def test_requests_that_vanished_without_a_word_are_made_again(
    connected: Connects,
    nats_server: NatsServer,
    js: RawJetStream,
    monkeypatch: pytest.MonkeyPatch,
    beside: Callable[[], AbstractAsyncContextManager[None]],
) -> None:
    monkeypatch.setattr(pull, "HEARTBEAT_SECONDS", 0.3)
    await js.create("ORDERS", ["orders.>"])
    async with connected(nats_server.url) as connection, reading(connection, deliver=acknowledge) as reader:
        await fill(js, 1)
        await eventually(lambda: reader.arrived)
        inbox = reader.pull._inbox
        reader.pull._inbox = b"nobody.reads.this"  # what is asked for from now on is lost
        await fill(js, 20)
        reader.pull._inbox = inbox
        await fill(js, 20)
        async with beside():
            await eventually(lambda: len({delivery.sequence for delivery in reader.arrived}) >= 30)


async def test_a_deleted_consumer_is_reported_and_asked_again_once_it_is_back(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.>"])
    async with connected(nats_server.url) as connection, reading(connection, deliver=acknowledge) as reader:
        await fill(js, 5)
        await eventually(lambda: len(reader.arrived) == 5)
        await js.api("CONSUMER.DELETE.ORDERS.shop-charge")
        await eventually(lambda: reader.missing)
        before = reader.missing
        await eventually(lambda: reader.missing > before)  # and again, for as long as it is missing
        await reader.ensure()
        reader.pull.ask_again()
        await eventually(lambda: js.settled("ORDERS", "shop-charge"))


async def test_the_same_number_in_a_stream_made_anew_is_another_message(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.>"])
    async with connected(nats_server.url) as connection, reading(connection) as reader:
        await js.publish("orders.1", b"old")
        await eventually(lambda: reader.arrived)
        await js.api("STREAM.DELETE.ORDERS")
        await eventually(lambda: reader.missing)
        await js.create("ORDERS", ["orders.>"])
        await js.publish("orders.1", b"new")
        await reader.ensure()
        reader.pull.ask_again()
        await eventually(lambda: reader.bodies == [b"old", b"new"])
        acknowledge(reader.arrived[0])  # the old one's handler ends now: nothing of the new stream is settled
        await connection.client.flush()
        assert not await js.settled("ORDERS", "shop-charge")
        acknowledge(reader.arrived[1])
        await eventually(lambda: js.settled("ORDERS", "shop-charge"))


@pytest.mark.usefixtures("minute")
async def test_what_arrives_while_it_closes_can_be_given_back_at_once(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.>"])
    await fill(js, 2000)
    async with connected(nats_server.url) as connection:
        async with reading(connection, limit=500, deliver=acknowledge) as reader:
            await eventually(lambda: len(reader.arrived) > 100)
            reader._deliver = lambda delivery: delivery.source.settle(delivery, b"-NAK")
            await reader.pull.close()
            connection.wire.flush()
            await connection.client.flush()
        seen = len(reader.arrived)
        await js.client.flush()
        await connection.client.flush()
        assert len(reader.arrived) == seen, "nothing comes after it is closed"
        async with reading(connection, limit=500, deliver=acknowledge):
            await eventually(lambda: js.settled("ORDERS", "shop-charge"), within=50)


async def test_the_server_is_told_that_a_message_is_still_in_work(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.>"])
    async with connected(nats_server.url) as connection:
        short = {"ack_wait": 400_000_000}
        wanted = consumer.config("shop-charge", "orders.>", "all", "charge")
        await consumer.ensure(connection, "ORDERS", wanted)
        config = (await js.consumer("ORDERS", "shop-charge"))["config"]
        await js.api(
            "CONSUMER.CREATE.ORDERS.shop-charge",
            {"stream_name": "ORDERS", "config": config | short, "action": "update"},
        )
        reader = Reader(connection, 10, None)
        await reader.pull.open()
        await fill(js, 1)
        await eventually(lambda: reader.arrived)
        for _ in range(5):  # whoever stands still tells it too late, once
            first = reader.arrived[0].reply
            for _ in range(10):
                reader.pull.extend(reader.arrived[0], time.monotonic())
                await asyncio.sleep(0.1)
            if reader.arrived[0].reply == first:
                break
        assert reader.arrived[0].reply == first, "it did not come again"
        acknowledge(reader.arrived[0])


async def test_extensions_do_not_pile_up_while_there_is_no_connection(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    said: list[bytes] = []

    async def note(message: Msg) -> None:
        said.append(message.data)

    await js.create("ORDERS", ["orders.>"])
    await js.client.subscribe("$JS.ACK.ORDERS.>", cb=note)
    async with (
        Proxy.to(nats_server.port) as proxy,
        connected(proxy.url) as connection,
        reading(connection) as reader,
    ):
        await fill(js, 1)
        await eventually(lambda: reader.arrived)
        await proxy.cut(refuse=True)
        await eventually(lambda: not connection.is_connected)
        for _ in range(50):
            reader.pull.extend(reader.arrived[0], time.monotonic())
            await asyncio.sleep(0)
        await proxy.mend()
        await eventually(lambda: connection.is_connected)
        reader.pull.extend(reader.arrived[0], time.monotonic())
        await asyncio.sleep(0)
        acknowledge(reader.arrived[0])
        await eventually(lambda: b"+ACK" in said)
        assert said == [b"+WPI", b"+ACK"]


@pytest.mark.slow
async def test_it_outlives_the_leader_of_a_replicated_stream(cluster: Cluster) -> None:
    async with RawJetStream.connect(cluster.url) as js:
        await js.create("ORDERS", ["orders.>"], num_replicas=3)
        settings = Settings(nats_url=cluster.url)
        async with connect(settings) as connection, reading(connection, deliver=acknowledge) as reader:
            await fill(js, 50)
            await eventually(lambda: len(reader.arrived) >= 50)
            (await cluster.leader("ORDERS")).kill()
            sent = set(range(1, 51))
            for _ in range(50):
                sent.add(await eventually(lambda: js.publish("orders.1", b"x", within=1)))
            await eventually(lambda: sent <= {delivery.sequence for delivery in reader.arrived})
            await eventually(lambda: js.settled("ORDERS", "shop-charge"))


async def test_a_pull_that_may_take_nothing_keeps_no_other_from_its_bytes(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.>"])
    async with connected(nats_server.url) as connection, anyio.create_task_group() as tasks:
        connection.in_flight = InFlight(8 << 20)
        readers = [Reader(connection, 1, None) for _ in range(4)]
        await readers[0].ensure()
        for each in readers:
            each.pull._weight.notice(3 << 20)  # a message of 3 MiB has come, and the next one
            each.pull._weight.exceeded(2 << 20, 3 << 20, 3 << 20)  # did not fit into 2 MiB
            await each.pull.open()
            connection.wire.flush()
        asked = [each.pull._out for each in readers]
        assert asked == [1, 1, 0, 0], "two take all bytes, and two queue"
        readers[2].pull.most = 0  # its function is throttled
        for each in readers:
            tasks.start_soon(each.watch)
        await eventually(lambda: readers[3].pull._out)  # the first two rest after 2 s
        tasks.cancel_scope.cancel()


async def test_no_two_requests_have_one_reply(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    """Of two with one reply, a replicated consumer may tell only of one that it has ended: the other's messages would count as out."""
    replies: list[str] = []

    async def note(message: Msg) -> None:
        replies.append(message.reply)

    await js.create("ORDERS", ["orders.>"])
    await js.client.subscribe("$JS.API.CONSUMER.MSG.NEXT.ORDERS.shop-charge", cb=note)
    async with connected(nats_server.url) as connection:
        wanted = consumer.config("shop-charge", "orders.>", "all", "charge")
        await consumer.ensure(connection, "ORDERS", wanted)
        config = (await js.consumer("ORDERS", "shop-charge"))["config"]
        await js.api(
            "CONSUMER.CREATE.ORDERS.shop-charge",
            {"stream_name": "ORDERS", "config": config | {"max_batch": 4}, "action": "update"},
        )
        async with reading(connection, deliver=acknowledge):
            await fill(js, 100)
            await eventually(lambda: js.settled("ORDERS", "shop-charge"))
    assert len(replies) > 10
    assert len({*replies}) == len(replies)


@pytest.mark.slow
async def test_what_a_replicated_consumer_was_asked_for_stays_known_under_load(tmp_path: Path) -> None:
    async with linked_cluster(tmp_path) as (cluster, links), RawJetStream.connect(cluster.url) as js:
        await js.create("ORDERS", ["orders.>"], num_replicas=3)
        async with (
            connect(Settings(nats_url=cluster.url)) as connection,
            reading(connection, limit=256, deliver=acknowledge, ahead=4096) as reader,
        ):
            for link in links:
                link.delay(0.005)  # so a delivery is almost always on its way to its quorum
            for _ in range(1500):
                await js.client.publish("orders.1", b"x")
                await asyncio.sleep(0.002)
            await eventually(partial(arrived, reader, 1500))
            await asyncio.sleep(2 * AHEAD_EXPIRES_SECONDS)  # what was asked for ahead has ended
            reader._deliver = None
            reader.pull.is_open = False  # it asks for no more
            asked = reader.pull._out
            await fill(js, 500)
            await eventually(lambda: len(reader.pull.unsettled) >= asked)
