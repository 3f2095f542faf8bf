"""Ack subjects: both versions, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import acksubject
from runner.core.acksubject import AckSubject, parse

EXPECTED = AckSubject("ORDERS", "shop-charge", 2, 17, 19, 1_700_000_000_123_456_789, 42)
TAIL = "ORDERS.shop-charge.2.17.19.1700000000123456789.42"
numbers = st.integers(0, 2**64 - 1)
tokens = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="."), min_size=1, max_size=8)


@pytest.mark.parametrize(
    "text",
    [
        f"$JS.ACK.{TAIL}",
        f"$JS.ACK._.Hash12.{TAIL}",
        f"$JS.ACK.hub.Hash12.{TAIL}",
        f"$JS.ACK.hub.Hash12.{TAIL}.rnd",
    ],
)
def test_every_version_tells_the_same(text: str) -> None:
    assert parse(text) == parse(text.encode()) == EXPECTED


@given(
    tokens,
    tokens,
    st.tuples(numbers, numbers, numbers, numbers, numbers),
    st.sampled_from(["", "hub.Hash12."]),
)
def test_any_metadata_is_read_as_written(
    stream: str, consumer: str, counts: tuple[int, int, int, int, int], domain: str
) -> None:
    text = f"$JS.ACK.{domain}{stream}.{consumer}.{'.'.join(map(str, counts))}"
    assert parse(text.encode()) == AckSubject(stream, consumer, *counts)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "_INBOX.abc",
        "$JS.ACK",
        f"$JS.ACK.{TAIL}.extra",
        f"$JS.ACK.a.b.c.d.{TAIL}",
        "$JS.ACK.S.C.1.2.3.4.x",
        "$JS.ACK.S.C.1.2.3.4.",
        "$JS.FC.S.C.1.2.3.4.5",
        b"$JS.ACK.\xff.C.1.2.3.4.5",
    ],
)
def test_anything_else_is_a_value_error(reply: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse(reply)


@given(st.text(max_size=40) | st.binary(max_size=40))
def test_random_replies_raise_nothing_but_value_errors(reply: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse(reply)


@pytest.mark.parametrize(
    ("reply", "consumer"),
    [
        (f"$JS.ACK.{TAIL}", "ORDERS.shop-charge"),
        ("$JS.ACK.S.C-1-0.1.2.3.4.5", "S.C-1-0"),
        ("$JS.ACK.hub.HASH.S.C.1.2.3.4.5", "S.C"),
        ("$JS.ACK.hub.HASH.S.C.1.2.3.4.5.token", "S.C"),
        ("orders.a", ""),
        ("", ""),
    ],
)
def test_whose_an_answer_is(reply: str, consumer: str) -> None:
    assert acksubject.consumer(reply.encode()).decode() == consumer


@pytest.mark.parametrize(
    ("verb", "outlives"),
    [
        (b"+ACK", True),
        (b"+TERM", True),
        (b"+TERM rejected: no", True),
        (b"-NAK", False),
        (b'-NAK {"delay":1}', False),
        (b"+WPI", False),
    ],
)
def test_that_a_message_is_done_stays_true(verb: bytes, *, outlives: bool) -> None:
    assert acksubject.outlives(b"$JS.ACK.S.C.1.2.3.4.5", verb) is outlives
    assert not acksubject.outlives(b"orders.a", verb)
