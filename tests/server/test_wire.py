"""Both wires on a real server: what is written arrives, what arrives is told, and what a lost connection leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client

from runner.jetstream.connection import Connection
from runner.jetstream.plainheaders import status_block
from runner.jetstream.plainwire import PlainWire
from runner.jetstream.wire import Wire, fits
from tests.server.conftest import Connects
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

Frame = tuple[bytes, bytes, bytes | None, bytes]


async def flushed(client: Client) -> None:
    """Everything this client wrote is with the server. Twice: nats-py's PING overtakes what waits in its buffer."""
    for _ in range(2):
        await client.flush()


async def listen(connection: Connection, subject: str) -> list[Frame]:
    """What arrives on a subject from now on."""
    got: list[Frame] = []
    await connection.wire.subscribe(subject, lambda *frame: got.append(frame))
    await flushed(connection.client)
    return got


async def test_a_message_arrives_with_every_byte_it_was_sent_with(
    connected: Connects, nats_server: NatsServer
) -> None:
    async with connected(nats_server.url) as connection:
        got = await listen(connection, "flüge.*")
        header = b"NATS/1.0\r\nA: b\r\nX-Y: two  words\r\n\r\n"
        connection.wire.publish("flüge.münchen".encode(), b"\r\nMSG a 1 0\r\n", b"re.ply", header)
        connection.wire.publish("flüge.köln".encode(), b"", b"")
        await eventually(lambda: len(got) == 2)
        assert got == [
            ("flüge.münchen".encode(), b"re.ply", header, b"\r\nMSG a 1 0\r\n"),
            ("flüge.köln".encode(), b"", None, b""),
        ]


async def test_what_is_no_text_arrives_byte_for_byte_and_stops_nothing(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    """Whoever may publish can send it: a subject, a reply or a header block that nats-py cannot decode."""
    frames: list[Frame] = [
        (b"n.\xff", b"", None, b"1"),
        (b"n.1", b"re.\xfe", None, b"2"),
        (b"n.a\rb", b"", None, b"3"),
        (b"n.1", b"", b"NATS/1.0 \xff\xff\xff \xfe\r\n\r\n", b"4"),
        (b"n.1", b"", b"NATS/1.0 503 \xff\r\nA: b\r\n\r\n", b"5"),
        (b"n.1", b"", b"NATS/1.0\r\n: x\r\nA\r\n b: \xff\r\nStatus: 9\nx\r\n\r\n", b"6"),
        (b"n.1", b"", None, b"7"),
    ]
    async with connected(nats_server.url) as connection:
        epoch = connection.wire.epoch
        got = await listen(connection, "n.*")
        for subject, reply, block, body in frames:
            await js.client._send_command(raw(subject, reply, block, body))
        await js.client.flush()
        await eventually(lambda: len(got) == len(frames))
        assert got == frames
        assert connection.wire.epoch == epoch, "the connection is the same"


async def test_a_message_to_a_subscription_of_nats_pys_own_that_is_no_text_costs_itself(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection:
        epoch, theirs = connection.wire.epoch, list[bytes]()

        async def take(message: Any) -> None:
            theirs.append(message.data)

        await connection.client.subscribe("n.*", cb=take)
        await flushed(connection.client)
        for subject in (b"n.1", b"n.\xff", b"n.a\rb", b"n.2"):
            await js.client._send_command(raw(subject, b"", None, subject))
        await js.client.flush()
        await eventually(lambda: len(theirs) == 2)
        assert (theirs, connection.wire.epoch) == ([b"n.1", b"n.2"], epoch)


async def test_a_refusal_that_quotes_a_subject_that_is_no_text_stops_nothing(
    connected: Connects, make_server: Any
) -> None:
    server = make_server("""authorization { users: [
        { user: a, password: a, permissions: { publish: { deny: "n.*" } } } ] }""")
    async with connected(server.url_as("a", "a")) as connection:
        epoch, got = connection.wire.epoch, await listen(connection, "other")
        await connection.client._send_command(raw(b"n.\xff", b"", None, b""))
        connection.wire.publish(b"other", b"", b"")
        await eventually(lambda: got)
        assert connection.wire.epoch == epoch


def raw(subject: bytes, reply: bytes, block: bytes | None, body: bytes) -> bytes:
    """A frame as a client writes it that checks nothing."""
    if block is None:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(body), body)
    size = len(block)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, size, size + len(body), block, body)


@pytest.mark.parametrize(
    ("parsed", "block"),
    [
        (None, None),
        ({}, None),
        ({"A": "b"}, b"NATS/1.0\r\nA: b\r\n\r\n"),
        ({"Status": "503"}, b"NATS/1.0 503\r\n\r\n"),
        (
            {"Status": "100", "Description": "Idle\r\nPUB x", "A": "b"},
            b"NATS/1.0 100 Idle PUB x\r\nA: b\r\n\r\n",
        ),
        ({"": "x", "a b": "c", "A": "b\r\nC: d", "E": "\udcff"}, b"NATS/1.0\r\nE: \xff\r\n\r\n"),
        ({"Status": "\ud800", "B": "\ud800"}, b"NATS/1.0 ?\r\n\r\n"),
    ],
)
def test_whatever_headers_nats_py_has_parsed_a_block_is_made_of_them(
    parsed: dict[str, str] | None, block: bytes | None
) -> None:
    assert status_block(parsed) == block


async def test_a_status_keeps_its_first_line(connected: Connects, nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        got = await listen(connection, "inbox")
        connection.wire.publish(b"nobody.listens", b"", b"inbox")
        await eventually(lambda: got)
        assert got[0][2] is not None
        assert got[0][2].startswith(b"NATS/1.0 503")


async def test_order_is_kept_through_ten_thousand_messages(
    connected: Connects, nats_server: NatsServer
) -> None:
    async with connected(nats_server.url) as connection:
        got = await listen(connection, "n")
        for number in range(10_000):
            connection.wire.publish(b"n", b"%d" % number, b"")
        await eventually(lambda: len(got) == 10_000)
        assert [int(frame[3]) for frame in got] == list(range(10_000))


async def test_a_body_of_eight_megabytes_goes_both_ways(connected: Connects, make_server: Any) -> None:
    server = make_server("max_payload: 8MB")
    async with connected(server.url) as connection:
        got = await listen(connection, "large")
        body = bytes(range(256)) * (32 << 10)
        connection.wire.publish(b"large", body[:-1000], b"")
        await eventually(lambda: got)
        assert got[0][3] == body[:-1000]


async def test_nothing_arrives_after_the_end_of_a_subscription(
    connected: Connects, nats_server: NatsServer, js: RawJetStream
) -> None:
    async with connected(nats_server.url) as connection:
        got: list[Frame] = []
        unsubscribe = await connection.wire.subscribe("n", lambda *frame: got.append(frame))
        await flushed(connection.client)
        for number in range(100):
            await js.client.publish("n", b"%d" % number)
        await flushed(js.client)
        await unsubscribe()
        assert len(got) == 100, "what was on its way still arrives"
        await js.client.publish("n", b"late")
        await flushed(js.client)
        await flushed(connection.client)
        assert len(got) == 100


async def test_subscriptions_live_through_a_server_that_was_killed(
    connected: Connects, nats_server: NatsServer
) -> None:
    async with connected(nats_server.url) as connection:
        got = await listen(connection, "n")
        for number in range(3):
            await asyncio.to_thread(nats_server.restart, kill=True)
            await eventually(lambda: connection.is_connected)

            def sent(number: int = number) -> bool:
                connection.wire.publish(b"n", b"%d" % number, b"")
                return any(frame[3] == b"%d" % number for frame in got)

            await eventually(sent)


async def test_a_frozen_peer_is_noticed_by_what_waits_to_be_written(
    connected: Connects, nats_server: NatsServer
) -> None:
    async with connected(nats_server.url) as connection:
        assert connection.wire.backlog < 1000
        nats_server.freeze()
        for _ in range(32):
            connection.wire.publish(b"n", b"x" * 500_000, b"")
        await eventually(lambda: connection.wire.backlog > 4 << 20)
        nats_server.thaw()
        await eventually(lambda: connection.wire.backlog < 1000)


async def test_what_a_lost_connection_has_not_sent_goes_out_on_the_next_one_only_if_it_is_still_true(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, wire: str
) -> None:
    """That a message is done stays true, but of a shard; that it shall come again speaks of one delivery."""

    class Ours:
        def lease_valid(self, _: float) -> bool:
            return True

    heard: list[tuple[str, bytes]] = []

    async def hear(message: Any) -> None:
        if message.subject.startswith(("$JS.ACK.", "asked")):
            heard.append((message.subject, message.data))

    await js.client.subscribe(">", cb=hear)
    await js.client.flush()
    plain, shard = (b"$JS.ACK.ORDERS.%b.1.1.1.1.0" % name for name in (b"shop-audit", b"shop-charge-0-0"))
    async with Proxy.to(nats_server.port) as proxy, connected(proxy.url) as connection:
        connection.wire.acks.order("ORDERS", "shop-charge-0-0", Ours(), lambda: None)
        epoch = connection.wire.epoch
        proxy.freeze("up")
        with pytest.raises(AssertionError):
            await take_all(connection)
        for reply in (plain, shard):
            for verb in (b"-NAK", b"+WPI", b"+TERM given up", b"+ACK"):
                connection.wire.answer(reply, verb)
        connection.wire.publish(b"asked", b"late", b"re.ply", b"NATS/1.0\r\n\r\n")
        connection.wire.publish(b"asked", b"late", b"")
        await eventually(lambda: wire == "fast" or not connection.wire._outgoing)
        await proxy.cut()
        await proxy.mend()
        await eventually(lambda: connection.is_connected and connection.wire.epoch > epoch)
        connection.wire.publish(b"asked", b"new", b"")
        await eventually(lambda: ("asked", b"new") in heard)
    kept = [] if wire == "fast" else [(plain.decode(), b"+TERM given up"), (plain.decode(), b"+ACK")]
    assert heard == [*kept, ("asked", b"new")]


async def test_what_a_lost_connection_had_brought_is_no_beginning_of_what_comes_on_the_next(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, wire: str
) -> None:
    async with connected(nats_server.url) as connection:
        got = await listen(connection, "told")
        client, epoch = connection.client, connection.wire.epoch
        stream: Any = getattr(client._transport, "_io_reader")  # noqa: B009  it is nats-py's own
        # Its task is woken, and the loss comes before it.
        type(stream).feed_data(stream, b"MSG told 99 100\r\nhalf a mess")
        await client._process_op_err(OSError("lost"))
        await eventually(lambda: connection.is_connected and connection.wire.epoch > epoch)
        await flushed(client)
        for number in range(3):
            await js.client.publish("told", b"%d" % number)
        await eventually(lambda: [frame[3] for frame in got] == [b"0", b"1", b"2"])
        assert connection.wire.epoch == epoch + 1, (
            "nothing on the next connection was taken for what it is not"
        )
        if isinstance(connection.wire, Wire):
            stream = getattr(client._transport, "_io_reader")  # noqa: B009
            assert connection.wire.reader._stream is stream, "what comes is worked off at once, as before"


async def take_all(connection: Connection) -> None:
    """Write until nothing more is taken; fails then."""
    while True:
        connection.wire.publish(b"n", b"x" * 500_000, b"")
        await eventually(lambda: connection.wire.backlog == 0, within=1)


async def test_a_nats_py_of_another_shape_gets_the_plain_wire(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    assert not fits(client), "not connected yet"
    await client.connect(nats_server.url)
    try:
        assert fits(client)
        transport, parser = client._transport, client._ps
        for name, other in (
            ("_transport", None),
            ("_transport", object()),
            ("_ps", object()),
            ("_ps", None),
            ("_subs", []),
        ):
            with monkeypatch.context() as another:
                another.setattr(client, name, other)
                assert not fits(client), name
        Wire(client)
        assert not fits(client), "a wire stands there already"
        client._transport, client._ps = transport, parser
    finally:
        await client.close()


async def test_the_setting_chooses_the_wire(connected: Connects, wire: str, nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        assert type(connection.wire) is (PlainWire if wire == "plain" else Wire)


async def test_headers_that_are_no_utf8_or_repeated_leave_as_they_are_and_nothing_is_held_up(
    connected: Connects, nats_server: NatsServer, js: RawJetStream, wire: str
) -> None:
    await js.create("PAID", ["paid"])
    header = b"NATS/1.0\r\nA: \xff\xfe x\r\nB: one\r\nB: two\r\n"
    async with connected(nats_server.url) as connection:
        connection.wire.publish(b"paid", b"1", b"", header + b"\r\n")
        connection.wire.publish(b"paid", b"2", b"", header + b"X(1): y\r\n\r\n")
        connection.wire.publish(b"paid", b"3", b"")
        await eventually(lambda: stored(js, 3))
    first, second, _ = await js.messages("PAID")
    assert first.raw_headers == header + b"\r\n"
    odd = b"" if wire == "plain" else b"X(1): y\r\n"  # nats-py would refuse the whole message
    assert second.raw_headers == header + odd + b"\r\n"


async def stored(js: RawJetStream, count: int) -> bool:
    return await js.count("PAID") == count
