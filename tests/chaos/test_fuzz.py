"""Nearly right input from everywhere: nothing raises what it should not, and nothing is written that was not meant.

An input is drawn from a number: a case that fails is named by its number, and is kept in `KEPT` from then on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import tomllib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from nats.errors import ProtocolError

from runner.cluster.member import read_member
from runner.core import (
    acksubject,
    apianswer,
    checked,
    deadletter,
    failurerecord,
    generation,
    header,
    origin,
    park,
    poison,
    shown,
    snapshot,
)
from runner.core.checked import Unfit
from runner.core.claim import Claim
from runner.core.histogram import Histogram
from runner.errors import ServerError, StreamFileError
from runner.jetstream.deadletterpage import read as read_letter
from runner.jetstream.publisher import read_ack
from runner.jetstream.wire import Wire
from runner.ordered.recorded import SettlementRecord
from runner.runtime.floors import Floor
from runner.streams.file import declare
from runner.streams.file import parse as parse_file
from tests.support.frames import Frame, parse
from tests.support.fuzz import HOSTILE, bent, json_near, twisted
from tests.support.listening import INBOX, Client, Listening
from tests.support.wellformed import (
    ACKS,
    ANSWERS,
    BLOCK,
    CLAIM,
    FAILED,
    FLOOR,
    INSTANCE,
    MARK,
    MEMBER,
    OPENING,
    SNAPSHOT,
    STARTS,
    STREAM_FILE,
)

pytestmark = pytest.mark.anyio

SHORT, LONG = 400, 100_000
"""Inputs to each of the targets below."""
KEPT: dict[str, list[int]] = {"headers": [1_100_063_505], "stream files": [3_427_704_073, 110_532_956]}
"""By target, the numbers of inputs that once failed."""

Case = Callable[[random.Random], None]


def decoding(read: Callable[[bytes], Any], good: Any, look: Callable[[Any], object] = repr) -> Case:
    """What is nearly `good` is read, or `Unfit`; what was read can be used."""

    def case(luck: random.Random) -> None:
        with suppress(Unfit):
            look(read(json_near(luck, [good])))

    return case


def records(luck: random.Random) -> None:
    good = [5, {"charge.0.1@2026-01-01T00:00:00Z": [17, 1, 2]}]
    with suppress(Unfit, OverflowError, TypeError, UnicodeEncodeError):
        value = msgspec.msgpack.encode(twisted(luck, good)) if luck.random() < 0.5 else b""
        sum(
            sum(each)
            for each in read_record(value or bent(luck, msgspec.msgpack.encode(good))).settled.values()
        )


read_record = checked.msgpack(SettlementRecord)


def marks(mark: park.Mark) -> None:
    """As it is used: another message's turn, and written again."""
    if mark.through is not None:
        mark.turn(mark.through)
    for letter in mark.letters:
        mark.has_settled(letter)
    assert mark.key
    assert park.read(park.encode(mark)) == mark


def starts(value: bytes) -> poison.StartRecord:
    """A record that cannot be read is told as any ValueError."""
    try:
        return poison.read(value, 5)
    except ValueError as error:
        raise Unfit(str(error)) from None


def snapshots(found: snapshot.Snapshot) -> None:
    for part in found.functions.values():
        with suppress(ValueError):
            Histogram.restore(part.duration).percentile(99)


def answers(luck: random.Random) -> None:
    request = luck.choice(sorted(ANSWERS))
    changed = twisted(luck, ANSWERS[request])
    if (
        isinstance(changed, dict)
        and not apianswer.check(request, changed)
        and request.startswith("CONSUMER.INFO")
    ):
        assert changed["ack_floor"]["stream_seq"] >= 0
        assert changed["delivered"]["consumer_seq"] >= 0


def pub_acks(luck: random.Random) -> None:
    good = [
        {"stream": "ORDERS", "seq": 1, "duplicate": True},
        {"error": {"code": 400, "err_code": 10071, "description": "x"}},
    ]
    with suppress(ServerError):
        read_ack(json_near(luck, good), "ORDERS")


def headers(luck: random.Random) -> None:
    block = bent(luck, BLOCK)
    found = header.pairs(block)
    named = header.parse(block)
    header.status(block)
    origin.read(named)
    letter = read_letter(block, b"x").letter
    deadletter.fit(deadletter.build(facts(letter), found), b"x", 1_024)
    with suppress(ValueError):  # a value that cannot stand in a block is refused, not written
        again = header.encode(origin.build(letter.origin, found))
        assert again.count(b"\r\n\r\n") == 1
        assert len(header.pairs(again)) == again.count(b"\r\n") - 2
    shown.line(block.decode("utf-8", "surrogateescape")).encode()


def facts(letter: deadletter.DeadLetter) -> deadletter.DeathFacts:
    return deadletter.DeathFacts(
        project=letter.project, function=letter.function, stream=letter.stream, sequence=letter.origin_sequence,
        subject=letter.subject, attempts=letter.attempts, reason=letter.reason, error=letter.error, message=letter.message,
        traceback=letter.traceback, time=letter.time,
    )  # fmt: skip


def ack_subjects(luck: random.Random) -> None:
    reply = bent(luck, luck.choice(ACKS))
    acksubject.outlives(reply, luck.choice((b"+ACK", b"-NAK", b"+WPI")))
    assert b" " not in acksubject.consumer(reply) or b" " in reply
    with suppress(ValueError):
        acksubject.parse(reply)


def stream_files(luck: random.Random) -> None:
    text = bent(luck, STREAM_FILE.encode()).decode("utf-8", "replace")
    with suppress(StreamFileError):
        declare(parse_file(text, "streams/x.toml"), "streams/x.toml", text)
    table = twisted(luck, tomllib.loads(STREAM_FILE))
    if isinstance(table, dict):
        with suppress(StreamFileError):
            declare(table, "streams/x.toml", text)


CASES: dict[str, Case] = {
    "leases": decoding(read_member, MEMBER, lambda member: [member.takes(each) for each in member.functions]),
    "claims": decoding(checked.json(Claim), CLAIM),
    "openings": decoding(generation.read, OPENING, lambda current: range(current.generation + current.count)),
    "marks": decoding(park.read, MARK, marks),
    "failures": decoding(failurerecord.read, FAILED, lambda record: record and record.rest(1.7e9)),
    "starts": decoding(starts, STARTS, lambda record: poison.next_step(record, {INSTANCE, "x"})),
    "floors": decoding(checked.json(Floor), FLOOR),
    "settlements": records,
    "status answers": decoding(snapshot.read, SNAPSHOT, snapshots),
    "answers of the server": answers,
    "confirmations": pub_acks,
    "headers": headers,
    "ack subjects": ack_subjects,
    "stream files": stream_files,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.timeout(1_200)
def test_what_is_nearly_right_is_read_or_refused(name: str, long: bool, seed: int) -> None:
    case = CASES[name]
    for number in [*KEPT.get(name, ()), *drawn(long=long, seed=seed)]:
        try:
            case(random.Random(number))
        except Exception as error:
            raise AssertionError(f"{name}: input {number} failed: {error!r}") from error


def drawn(*, long: bool, seed: int, share: float = 1.0) -> range:
    """The numbers of this run's inputs."""
    return range(seed, seed + int((LONG if long else SHORT) * share))


# -- what is written ---------------------------------------------------------------------------------------


def odd(luck: random.Random, good: bytes) -> bytes:
    return luck.choice((good, bent(luck, good), luck.choice(HOSTILE), b""))


@pytest.mark.timeout(1_200)
async def test_a_publish_writes_the_one_frame_that_it_is_or_is_refused(long: bool, seed: int) -> None:
    client: Any = Client()
    wire = Wire(client)
    for number in [*KEPT.get("publishes", ()), *drawn(long=long, seed=seed, share=2)]:
        luck = random.Random(number)
        subject, reply = odd(luck, b"orders.anna.created"), odd(luck, b"_INBOX.a.1")
        body = odd(luck, b'{"id": 1}')
        try:
            pairs = [
                (
                    odd(luck, b"Tenant").decode("utf-8", "surrogateescape"),
                    odd(luck, b"a").decode("utf-8", "replace"),
                )
            ]
            block = header.encode(pairs) if luck.random() < 0.5 else b""
            wire.publish(subject, body, reply, block)
            asked = [Frame(subject, reply, block, body)]
        except ValueError:
            asked = []
        wire.flush()
        written, client._transport.written = client._transport.written, b""
        assert parse(written) == asked, f"publishes: input {number}"


@pytest.mark.timeout(1_200)
async def test_whoever_asks_the_runner_is_answered_at_inboxes_and_nothing_else_is_written(
    long: bool, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Frames as a server may send them, for every subscription of a process; a subject holds no space and no line end."""
    caplog.set_level(logging.CRITICAL, "jetrunner")  # what is refused is told, each time
    listening = Listening()
    await listening.open()
    subjects = len(listening.client.subjects)
    bodies = [MEMBER, CLAIM, OPENING, MARK, FLOOR, SNAPSHOT]
    for number in [*KEPT.get("frames", ()), *drawn(long=long, seed=seed, share=3)]:
        luck = random.Random(number)
        sid = luck.randrange(1, subjects + 1)
        good = listening.client.subjects[sid - 1].replace("*", "1").replace(">", "anna").encode()
        subject = token(odd(luck, good)) or b"x"
        reply = token(
            odd(luck, luck.choice((*ACKS, b"_INBOX.a.1", b"evil", b"$JS.API.STREAM.DELETE.ORDERS")))
        )
        body = (
            json_near(luck, bodies)
            if luck.random() < 0.7
            else odd(luck, json.dumps(luck.choice(bodies)).encode())
        )
        between = b" " if reply else b""
        if luck.random() < 0.3:
            block = bent(luck, BLOCK)
            sizes = b"%d %d" % (len(block), len(block) + len(body))
            frame = b"HMSG %b %d %b%b%b\r\n%b%b\r\n" % (subject, sid, reply, between, sizes, block, body)
        else:
            frame = b"MSG %b %d %b%b%d\r\n%b\r\n" % (subject, sid, reply, between, len(body), body)
        await listening.feed(frame)
        for written in listening.written():
            answered = written.subject == reply and reply.startswith(b"_INBOX")
            pulled = written.subject == b"$JS.API.CONSUMER.MSG.NEXT.ORDERS.shop-charge"
            assert answered or pulled, f"frames: input {number} made {written}"
            assert not pulled or written.reply.startswith(INBOX)
        listening.pull.unsettled.clear()
        listening.delivered.clear()
        if number % 1_000 == 0:
            await asyncio.sleep(0)


def token(value: bytes) -> bytes:
    """As much as the server lets through in a subject."""
    return value.translate(None, b" \t\r\n\x0b\x0c")[:4_000]


@pytest.mark.timeout(1_200)
async def test_whatever_is_read_from_the_socket_ends_reading_only_as_a_protocol_error(
    long: bool, seed: int
) -> None:
    for number in [*KEPT.get("reads", ()), *drawn(long=long, seed=seed, share=0.5)]:
        luck = random.Random(number)
        client: Any = Client()
        client._process_msg = client._process_ping = client._process_pong = client._process_info = nothing
        client._process_err = nothing
        wire = Wire(client)
        wire.reader.sinks[b"1"] = lambda *_: None
        stream = b"".join(
            luck.choice(
                (
                    b"MSG a.b 1 _I.a 2\r\nhi\r\n",
                    b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
                    b"PING\r\n",
                    b"+OK\r\n",
                )
            )
            for _ in range(luck.randrange(1, 6))
        )
        data = bent(luck, stream)
        try:
            async with asyncio.timeout(60):
                while data:
                    size = luck.choice((1, 7, 64, 4_096))
                    await wire.reader.parse(data[:size])
                    data = data[size:]
        except ProtocolError:
            pass  # nats-py connects anew
        except Exception as error:
            raise AssertionError(f"reads: input {number} failed: {error!r}") from error
        assert not client._transport.written


async def nothing(*_: object) -> None:
    """As nats-py's client would, without a connection."""
