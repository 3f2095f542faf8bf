"""Answers to deliveries, on both wires: what stays true outlives a lost connection, and nothing else does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner.jetstream.connection import Connection
from runner.jetstream.delivery import Delivery
from runner.jetstream.pull import LAPSED_SECONDS, Pull, clock
from tests.server.conftest import Connects
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

Heard = list[tuple[str, bytes]]
UNORDERED = b"$JS.ACK.S.C.1.%d.%d.1.0"
WITH_DOMAIN = b"$JS.ACK.hub.ACCHASH.S.%b.1.%d.%d.1.0.tok"
SHARD = b"$JS.ACK.S.C-1-0.1.%d.%d.1.0"


class Lease:
    """Whether the shards of the process are its own."""

    def __init__(self) -> None:
        self.held = True

    def lease_valid(self, now: float) -> bool:
        return self.held and now > 0


@pytest.fixture
async def heard(js: RawJetStream) -> Heard:
    """What comes to a listener at the server, in order; `said` is the mark that the rest was written."""
    got: Heard = []

    async def note(message: Any) -> None:
        got.append((message.subject, message.data))

    for subject in ("$JS.ACK.>", "other", "said"):
        await js.client.subscribe(subject, cb=note)
    await js.client.flush()
    await js.client.flush()
    return got


async def all_of(connection: Connection, heard: Heard) -> Heard:
    """Everything that was written before now."""
    connection.wire.publish(b"said", b"", b"")
    await eventually(lambda: ("said", b"") in heard)
    return [each for each in heard if each[0] != "said"]


async def lost(proxy: Proxy, connection: Connection) -> None:
    await proxy.cut(refuse=True)
    await eventually(lambda: not connection.is_connected)


async def back(proxy: Proxy, connection: Connection) -> None:
    await asyncio.sleep(0)  # what was asked for in this turn is written, or would be
    await proxy.mend()
    await eventually(lambda: connection.is_connected)


async def test_what_is_done_or_given_up_waits_for_the_connection_and_nothing_else_does(
    connected: Connects, nats_server: NatsServer, heard: Heard
) -> None:
    async with Proxy.to(nats_server.port) as proxy, connected(proxy.url) as connection:
        wire = connection.wire
        epoch = wire.epoch
        await lost(proxy, connection)
        assert wire.epoch > epoch
        wire.ack(UNORDERED % (1, 1))
        wire.answer(UNORDERED % (2, 2), b"-NAK")
        wire.answer(UNORDERED % (3, 3), b'-NAK {"delay":1000000000}')
        wire.answer(UNORDERED % (4, 4), b"+WPI")
        wire.answer(UNORDERED % (5, 5), b"+TERM rejected: no")
        wire.ack(WITH_DOMAIN % (b"C", 6, 6))
        wire.publish(b"other", b"dropped", b"")
        await back(proxy, connection)
        wire.publish(b"other", b"sent", b"")
        assert await all_of(connection, heard) == [
            ("$JS.ACK.S.C.1.1.1.1.0", b"+ACK"),
            ("$JS.ACK.S.C.1.5.5.1.0", b"+TERM rejected: no"),
            ("$JS.ACK.hub.ACCHASH.S.C.1.6.6.1.0.tok", b"+ACK"),
            ("other", b"sent"),
        ]


async def test_no_answer_of_a_shard_outlives_its_connection(
    connected: Connects, nats_server: NatsServer, heard: Heard
) -> None:
    async with Proxy.to(nats_server.port) as proxy, connected(proxy.url) as connection:
        wire = connection.wire
        wire.acks.order("S", "C-1-0", Lease(), lambda: None)
        await lost(proxy, connection)
        wire.ack(SHARD % (1, 1))
        wire.answer(SHARD % (2, 2), b"+TERM rejected: no")
        wire.answer(SHARD % (3, 3), b"-NAK")
        wire.ack(WITH_DOMAIN % (b"C-1-0", 4, 4))
        wire.ack(UNORDERED % (5, 5))
        await back(proxy, connection)
        wire.ack(SHARD % (6, 6))
        assert await all_of(connection, heard) == [
            ("$JS.ACK.S.C.1.5.5.1.0", b"+ACK"),
            ("$JS.ACK.S.C-1-0.1.6.6.1.0", b"+ACK"),
        ]


async def test_what_was_asked_for_right_before_the_connection_was_lost_is_no_exception(
    connected: Connects, nats_server: NatsServer, heard: Heard
) -> None:
    """In one turn of the loop with the loss: the frames wait for the end of that turn."""
    async with Proxy.to(nats_server.port) as proxy, connected(proxy.url) as connection:
        wire = connection.wire
        wire.acks.order("S", "C-1-0", Lease(), lambda: None)
        await proxy.cut(refuse=True)

        class Witness:
            """Told in the moment of the loss, before anything else can be."""

            def lost(self) -> None:
                wire.ack(SHARD % (1, 1))
                wire.answer(UNORDERED % (2, 2), b"-NAK")
                wire.ack(UNORDERED % (3, 3))

        witness = Witness()
        wire.pulls.add(witness)
        await eventually(lambda: not connection.is_connected)
        await back(proxy, connection)
        assert await all_of(connection, heard) == [("$JS.ACK.S.C.1.3.3.1.0", b"+ACK")]


async def test_shards_answer_nothing_while_they_may_be_anothers(
    connected: Connects, nats_server: NatsServer, heard: Heard
) -> None:
    lease, unsaid = Lease(), []
    async with connected(nats_server.url) as connection:
        wire = connection.wire
        wire.acks.order("S", "C-1-0", lease, lambda: unsaid.append("0"))
        wire.acks.order("S", "C-1-1", lease, lambda: unsaid.append("1"))
        lease.held = False
        wire.ack(SHARD % (1, 1))
        wire.answer(SHARD % (2, 2), b"-NAK")
        wire.ack(UNORDERED % (3, 3))
        wire.answer(UNORDERED % (4, 4), b"-NAK")
        wire.publish(b"other", b"sent", b"")
        await eventually(lambda: ("other", b"sent") in heard)
        assert unsaid == ["0"]  # for what was settled; a message that is given back comes again by itself
        lease.held = True
        wire.ack(SHARD % (5, 5))
        assert await all_of(connection, heard) == [
            ("$JS.ACK.S.C.1.3.3.1.0", b"+ACK"),
            ("$JS.ACK.S.C.1.4.4.1.0", b"-NAK"),
            ("other", b"sent"),
            ("$JS.ACK.S.C-1-0.1.5.5.1.0", b"+ACK"),
        ]


class Pulled:
    """A pull on a stream of three messages, and what it was given."""

    def __init__(self, connection: Connection) -> None:
        self.got: list[Delivery] = []
        self.pull = Pull(connection, "S", "C", 3, self.got.append, lambda: None)


@pytest.fixture
async def stream(js: RawJetStream) -> None:
    await js.create("S", ["n"])
    config = {"durable_name": "C", "ack_policy": "explicit", "max_deliver": -1, "ack_wait": 60 * 10**9}
    await js.api("CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": config})
    for number in range(3):
        await js.publish("n", b"%d" % number)


@pytest.mark.usefixtures("stream")
async def test_a_message_whose_lease_has_lapsed_is_not_asked_for_again_and_leaks_no_slot(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection:
        pulled = Pulled(connection)
        pull, got = pulled.pull, pulled.got
        await pull.open()
        await eventually(lambda: len(got) == 3)
        lapsed, frozen, fresh = got
        for delivery in got:
            delivery.extended = clock()
        lapsed.extended -= LAPSED_SECONDS + 0.1
        frozen.extended -= LAPSED_SECONDS + 0.1
        pull.extend(frozen, clock())  # the sweeper came first: it stays lapsed, whatever is said of it since
        pull.later(lapsed, 0)
        pull.give_back(frozen)
        pull.later(fresh, 0)
        await eventually(lambda: len(got) == 4)
        assert got[3].sequence == fresh.sequence, "the one that was ours to give back comes again at once"
        assert set(pull.unsettled) == {fresh.sequence}
        info = await js.consumer("S", "C")
        assert info["num_redelivered"] == 1
        assert info["num_ack_pending"] == 3, "the server will deliver them again by itself"


@pytest.mark.usefixtures("stream")
async def test_one_that_comes_again_while_it_is_in_work_is_ours_again(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection:
        pulled = Pulled(connection)
        pull, got = pulled.pull, pulled.got
        await pull.open()
        await eventually(lambda: len(got) == 3)
        first = got[0]
        before = first.reply
        first.lapsed = True
        await js.client.publish(before.decode(), b"-NAK")
        pull.limit = 4
        pull.wake()
        await eventually(lambda: first.reply != before)
        assert not first.lapsed
        pull.later(first, 0)
        await eventually(lambda: len(got) == 4)
        assert got[3].sequence == first.sequence


@pytest.mark.usefixtures("stream")
async def test_of_a_lost_connection_the_lease_counts_from_when_the_server_was_last_heard(
    connected: Connects, nats_server: NatsServer
) -> None:
    """What was written after that may have gone nowhere: a half-open connection takes it all the same."""
    async with Proxy.to(nats_server.port) as proxy, connected(proxy.url) as connection:
        pulled = Pulled(connection)
        pull, got = pulled.pull, pulled.got
        await pull.open()
        await eventually(lambda: len(got) == 3)
        unheard, heard, _ = got
        unheard.extended = connection.wire.heard + 6
        heard.extended = connection.wire.heard - 1
        before = heard.extended
        await lost(proxy, connection)
        assert unheard.extended < connection.wire.heard
        assert heard.extended == before
        await back(proxy, connection)
