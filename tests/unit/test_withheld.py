"""What is kept back from the server while a stream may be another, and what a delivery's reply says of its message."""

from __future__ import annotations

import pytest

from runner.core.history import NOTHING, Identity
from runner.jetstream.acks import withdrawn
from runner.jetstream.reply import consumer_sequence, identity, is_lost, stored_at, stream_sequence
from runner.jetstream.withheld import Withheld

SHORT = b"$JS.ACK.LEDGER.post.1.%d.7.%d.0"
LONG = b"$JS.ACK.hub.ACC.LEDGER.post.1.%d.7.%d.0.token"


class Wire:
    def __init__(self) -> None:
        self.told: list[tuple[bytes, bytes]] = []

    def ack(self, reply: bytes) -> None:
        self.told.append((reply, b"+ACK"))

    def answer(self, reply: bytes, verb: bytes) -> None:
        self.told.append((reply, verb))


@pytest.mark.parametrize("form", [SHORT, LONG])
def test_both_forms_of_a_reply_say_the_same(form: bytes) -> None:
    reply = form % (12, 345)
    assert (stream_sequence(reply), consumer_sequence(reply), stored_at(reply)) == (12, 7, 345)
    assert identity(reply, "then") == Identity("then", 12, 345)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of the monotonic clock, as `Withheld` reads it."""
    seconds = [100.0]
    monkeypatch.setattr("runner.jetstream.withheld.time.monotonic", lambda: seconds[0])
    return seconds


def test_what_is_settled_is_told_at_once_or_kept_back_in_order() -> None:
    wire = Wire()
    told = Withheld(wire)
    told.ack(b"1")
    told.begin()
    told.ack(b"2")
    told.answer(b"3", b"+TERM no")
    told.begin()
    assert wire.told == [(b"1", b"+ACK")]
    told.send()
    told.answer(b"5", b"-NAK")
    told.ack(b"6")
    told.send()
    assert wire.told == [(b"1", b"+ACK"), (b"2", b"+ACK"), (b"3", b"+ACK"), (b"5", b"-NAK"), (b"6", b"+ACK")]


@pytest.mark.parametrize(("seconds", "sent"), [(0.4, True), (0.6, False)])
def test_a_retry_is_told_after_a_short_loss_alone(clock: list[float], seconds: float, *, sent: bool) -> None:
    wire = Wire()
    told = Withheld(wire)
    told.begin()
    nak = SHORT % (6, 60), b'-NAK {"delay":50000000}'
    told.answer(*nak)
    told.answer(SHORT % (7, 70), b"-NAK")
    clock[0] += seconds
    told.cut(7, Identity("then", 7, 71))
    told.send()
    assert wire.told == ([nak] if sent else [])
    told.begin()
    told.send()
    assert wire.told == ([nak] if sent else []), "told twice"


def test_what_is_dropped_is_never_told() -> None:
    wire = Wire()
    told = Withheld(wire)
    told.begin()
    told.ack(b"1")
    told.answer(b"2", b"-NAK")
    told.drop()
    told.ack(b"3")
    told.send()
    assert wire.told == [(b"3", b"+ACK")]


def test_what_the_stream_has_lost_is_not_told() -> None:
    wire = Wire()
    told = Withheld(wire)
    told.begin()
    assert told.newest() == NOTHING
    for sequence, stored in ((5, 50), (6, 60), (7, 70), (6, 600), (7, 700)):
        told.ack(SHORT % (sequence, stored))
    assert told.newest().sequence == 7
    told.cut(6, Identity("then", 7, 70))
    told.send()
    assert [reply for reply, _ in wire.told] == [SHORT % (5, 50), SHORT % (6, 600), SHORT % (7, 700)]


@pytest.mark.parametrize(
    ("sequence", "stored", "known_ns", "lost"),
    [(5, 50, 70, False), (6, 60, 70, True), (7, 70, 70, True), (7, 71, 70, False), (9, 900, 0, True)],
)
def test_which_messages_are_lost(sequence: int, stored: int, known_ns: int, *, lost: bool) -> None:
    assert is_lost(SHORT % (sequence, stored), 6, Identity("then", 7, known_ns)) is lost


def test_what_the_wire_still_had_is_kept_back_too_and_no_other_consumers() -> None:
    frames = [
        b"PUB $JS.ACK.LEDGER.post.1.6.7.60.0 4\r\n+ACK\r\n",
        b"PUB $JS.ACK.LEDGER.copy.1.6.7.60.0 4\r\n+ACK\r\n",
        b"PUB orders.1 2\r\nhi\r\n",
    ]
    others, replies = withdrawn(frames, b"LEDGER.post")
    assert (others, replies) == (frames[1:], [b"$JS.ACK.LEDGER.post.1.6.7.60.0"])
    wire = Wire()
    told = Withheld(wire)
    told.begin(replies)
    told.ack(b"2")
    told.send()
    assert [reply for reply, _ in wire.told] == [*replies, b"2"]
