"""The wire reads what nats-py's own parser reads, whatever comes and however it is cut."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from runner.jetstream.wire import Wire

KNOWN = (1, 33)
"""Subscriptions that the wire has a sink for; others go through nats-py's parser."""
SUBJECTS = (b"a", b"orders.c1.created", "flüge.münchen.✈".encode(), b"_INBOX.abc.1")
REPLIES = (b"", b"", b"$JS.ACK.ORDERS.shop-charge.1.17.4.1700000000000000000.0 ", "é.ü ".encode())
BLOCKS = (
    b"NATS/1.0\r\nA: b\r\n\r\n",
    b"NATS/1.0 404 No Messages\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 3\r\n\r\n",
    b"NATS/1.0\r\nX: \xff\xfe\r\nMSG a 1 0: y\r\n\r\n",
)
BODIES = (
    b"",
    b"\r\n",
    b"MSG a 1 3\r\nabc\r\n",
    b"HMSG a 33 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nxy\r\n",
    b"PING\r\n+OK\r\n-ERR 'stale connection'\r\n",
    b"x" * 5000,
)
STALE = b"-ERR 'Stale Connection'\r\n"
CONTROLS = (
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
    b"-ERR 'Permissions Violation'\r\n",
    b'INFO {"n": 3}\r\n',
    STALE,
)
READS = (1, 2, 3, 7, 64, 700, 32768)


class Recorder:
    """What a parser tells its client; it loses the connection as nats-py's client does."""

    is_reconnecting = False
    is_connected = True
    is_closed = False
    _transport: Any = None

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.lost = 0
        self._ps: Any = None

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, header: bytes | None
    ) -> None:
        self.told.append((sid, bytes(subject), bytes(reply), bytes(header) if header else None, bytes(data)))

    async def _process_ping(self) -> None:
        self.told.append("ping")

    async def _process_pong(self) -> None:
        self.told.append("pong")

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.told.append(info)

    async def _process_err(self, text: str) -> None:
        self.told.append(text)
        if "stale" in text:
            self.lost += 1
            self._ps.reset()


def sinks(wire: Wire, recorder: Recorder) -> None:
    for sid in KNOWN:

        def sink(subject: bytes, reply: bytes, header: bytes | None, body: bytes, sid: int = sid) -> None:
            recorder.told.append((sid, subject, reply, header, body))

        wire.reader.sinks[b"%d" % sid] = sink


def frame(luck: random.Random) -> bytes:
    """One frame as a server may send it."""
    kind, subject, reply = luck.random(), luck.choice(SUBJECTS), luck.choice(REPLIES)
    sid = luck.choice((b"1", b"2", b"33", b"333"))
    body = luck.choice(BODIES) if luck.random() < 0.5 else luck.randbytes(luck.randrange(300))
    if kind < 0.45:
        return b"MSG %b %b %b%d\r\n%b\r\n" % (subject, sid, reply, len(body), body)
    if kind < 0.8:
        block = luck.choice(BLOCKS)
        sizes = b"%d %d" % (len(block), len(block) + len(body))
        return b"HMSG %b %b %b%b\r\n%b%b\r\n" % (subject, sid, reply, sizes, block, body)
    # A lost connection ends most streams early: rarely.
    return luck.choice(CONTROLS if kind > 0.98 else CONTROLS[:-1])


@pytest.mark.parametrize(
    "batch", [*range(10), *(pytest.param(number, marks=pytest.mark.thorough) for number in range(10, 30))]
)
async def test_a_random_stream_cut_anywhere_reads_the_same_after_every_single_read(batch: int) -> None:
    for seed in range(batch * 300, batch * 300 + 300):
        luck = random.Random(seed)
        theirs, ours = Recorder(), Recorder()
        theirs._ps, wire = Parser(theirs), Wire(ours)  # type: ignore[arg-type]
        sinks(wire, ours)
        for _ in range(luck.randrange(1, 4)):  # connections, one after the other
            stream = b"".join(frame(luck) for _ in range(luck.randrange(1, 30)))
            reads, at, lost = luck.choices(READS, k=3), 0, theirs.lost
            while at < len(stream) and theirs.lost == lost:
                step = luck.choice(reads)
                await theirs._ps.parse(stream[at : at + step])
                await wire.reader.parse(stream[at : at + step])
                at += step
                assert ours.told == theirs.told, f"seed {seed}"
                if luck.random() < 0.01:  # cut between two reads, often within a frame
                    theirs._ps.reset()
                    wire.reader.reset()
                    break


class Reading:
    """A stream that is read as nats-py reads its socket's."""

    def __init__(self, wire: Wire, recorder: Recorder) -> None:
        self.stream = asyncio.StreamReader()
        self._wire = wire
        recorder._transport = self
        self.task = asyncio.create_task(self._read())

    @property
    def _io_reader(self) -> asyncio.StreamReader:
        return self.stream

    async def _read(self) -> None:
        while not self.stream.at_eof():
            await self._wire.reader.parse(await self.stream.read(32768))

    async def begun(self) -> None:
        """Return once it waits for more than a first line."""
        self.stream.feed_data(b"+OK\r\n")
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.mark.parametrize("batch", range(10))
async def test_a_random_stream_reads_the_same_in_the_turns_that_bring_it(batch: int) -> None:
    for seed in range(batch * 100, batch * 100 + 100):
        luck = random.Random(seed)
        theirs, ours = Recorder(), Recorder()
        theirs._ps, wire = Parser(theirs), Wire(ours)  # type: ignore[arg-type]
        sinks(wire, ours)
        reading = Reading(wire, ours)
        frames = [each for each in (frame(luck) for _ in range(luck.randrange(1, 30))) if each != STALE]
        data, reads, at = b"".join(frames), luck.choices(READS, k=3), 0
        await theirs._ps.parse(data)
        while at < len(data):
            step = luck.choice(reads)
            reading.stream.feed_data(data[at : at + step])
            at += step
            if luck.random() < 0.7:
                await asyncio.sleep(0)
        reading.stream.feed_eof()
        await reading.task
        assert ours.told == theirs.told, f"seed {seed}"


async def test_what_is_for_a_sink_is_there_in_the_turn_that_brings_it_and_the_rest_in_order() -> None:
    recorder = Recorder()
    wire = Wire(recorder)  # type: ignore[arg-type]
    sinks(wire, recorder)
    reading = Reading(wire, recorder)
    await reading.begun()
    reading.stream.feed_data(b"MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\n")
    first = [(1, b"a", b"", None, b"x"), (1, b"a", b"", None, b"y")]
    assert recorder.told == first
    reading.stream.feed_data(b"MSG a 1 1\r\nz\r\nPING\r\nMSG a 1 1\r\nv\r\n")
    reading.stream.feed_data(b"MSG a 1 1\r\nw\r\n")
    assert recorder.told == [*first, (1, b"a", b"", None, b"z")]  # what follows a PING waits for that
    reading.stream.feed_eof()
    await reading.task
    assert [each if each == "ping" else each[4] for each in recorder.told] == [
        b"x",
        b"y",
        b"z",
        "ping",
        b"v",
        b"w",
    ]


async def test_what_comes_of_a_lost_connection_is_for_no_sink() -> None:
    recorder = Recorder()
    wire = Wire(recorder)  # type: ignore[arg-type]
    sinks(wire, recorder)
    reading = Reading(wire, recorder)
    await reading.begun()
    come = reading.stream.feed_data
    wire.reader.reset()
    for feed in (come, reading.stream.feed_data):  # a transport may have kept either
        feed(b"MSG a 1 1\r\nx\r\n")
    assert recorder.told == []
    reading.task.cancel()


async def test_a_large_body_costs_linear_time() -> None:
    async def seconds(size: int) -> float:
        recorder = Recorder()
        wire = Wire(recorder)  # type: ignore[arg-type]
        got: list[int] = []
        wire.reader.sinks[b"1"] = lambda _s, _r, _h, body: got.append(len(body))
        stream = b"MSG a 1 %d\r\n" % size + b"x" * size + b"\r\n"
        began = time.process_time()
        for at in range(0, len(stream), 32768):
            await wire.reader.parse(stream[at : at + 32768])
        assert got == [size]
        return time.process_time() - began

    # Joined anew at each of its 2,048 reads, it would copy 64 GB.
    assert await seconds(64 << 20) < 8


async def test_a_sink_that_fails_costs_its_own_frame_alone(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    wire = Wire(recorder)  # type: ignore[arg-type]
    sinks(wire, recorder)

    def broken(*_: object) -> None:
        raise KeyError("sink")

    wire.reader.sinks[b"2"] = broken
    await wire.reader.parse(b"MSG a 1 1\r\nx\r\nMSG a 2 1\r\ny\r\nMSG a 1 1\r\nz\r\nPING\r\n")
    assert recorder.told == [(1, b"a", b"", None, b"x"), (1, b"a", b"", None, b"z"), "ping"]
    assert "a frame could not be delivered" in caplog.text


@pytest.mark.parametrize("line", [b"MSG a 1 many\r\n", b"MSG\r\n", b"HMSG a 1 5 x\r\n", b"NONSENSE\r\n"])
async def test_a_malformed_line_is_a_protocol_error_which_nats_py_answers_with_a_reconnect(
    line: bytes,
) -> None:
    recorder = Recorder()
    wire = Wire(recorder)  # type: ignore[arg-type]
    sinks(wire, recorder)
    with pytest.raises(ProtocolError):
        await wire.reader.parse(line + b"12345\r\n")


async def test_what_nats_py_has_read_in_part_when_the_wire_takes_over_is_not_lost() -> None:
    recorder = Recorder()
    recorder._ps = Parser(recorder)
    await recorder._ps.parse(b'PING\r\nINFO {"n"')
    wire = Wire(recorder)  # type: ignore[arg-type]
    await wire.reader.parse(b": 4}\r\nPING\r\n")
    assert recorder.told == ["ping", {"n": 4}, "ping"]


async def test_frames_of_one_turn_leave_as_one_write() -> None:
    writes: list[bytes] = []

    class Transport:
        def write(self, data: bytes) -> None:
            writes.append(data)

    recorder = Recorder()
    recorder._transport = Transport()
    wire = Wire(recorder)  # type: ignore[arg-type]
    wire.ack(b"$JS.ACK.1")
    wire.publish(b"a", b"body", b"", b"NATS/1.0\r\nA: b\r\n\r\n")
    wire.due(lambda: wire.publish(b"late", b"", b"r"))
    assert writes == []
    await asyncio.sleep(0)
    assert writes == [
        b"PUB $JS.ACK.1 4\r\n+ACK\r\nHPUB a  18 22\r\nNATS/1.0\r\nA: b\r\n\r\nbody\r\nPUB late r 0\r\n\r\n"
    ]
