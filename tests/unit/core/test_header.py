"""Header blocks: what is written is read again, and reading never raises."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.core import header

names = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=12
)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20).map(
    lambda value: value.strip(" \t")
)
header_pairs = st.lists(st.tuples(names, values), max_size=5)
blocks = st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"NATS/1.0\r\n" + rest)
STATUS = b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\n\r\n"


@given(header_pairs)
def test_what_is_encoded_is_read_again(given_pairs: list[tuple[str, str]]) -> None:
    raw = header.encode(given_pairs)
    assert header.pairs(raw) == given_pairs
    assert header.parse(raw) == dict(reversed(given_pairs))
    assert header.status(raw) is None
    for name, _ in given_pairs:
        first = next(value for each, value in given_pairs if each.lower() == name.lower())
        assert header.get(raw, name.swapcase().encode()) == first.encode()


@given(blocks)
@example(b"NATS/1.0\r\n: no name\r\nno colon\r\n bad: name\r\n\r\n")
def test_reading_any_bytes_never_raises(raw: bytes) -> None:
    assert isinstance(header.parse(raw), dict)
    header.status(raw)
    header.get(raw, b"traceparent")


@given(st.binary(max_size=20).filter(lambda value: not {10, 13} & set(value)))
def test_bytes_that_are_not_utf8_are_sent_on_byte_for_byte(value: bytes) -> None:
    kept = value.strip(b" \t")
    assert (
        header.encode(header.pairs(b"NATS/1.0\r\nX:" + value + b"\r\n\r\n"))
        == b"NATS/1.0\r\nX: " + kept + b"\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", []),
        (b"HTTP/1.1\r\nA: b\r\n\r\n", []),
        (b"NATS/1.0\r\n\r\n", []),
        (b"NATS/1.0\r\nA:b\r\nC:  d \r\n\r\n", [("A", "b"), ("C", "d")]),
        (b"NATS/1.0\r\nA: b:c\r\nA: d\r\na: e\r\n\r\n", [("A", "b:c"), ("A", "d"), ("a", "e")]),
        (b"NATS/1.0\r\nbroken\r\n: x\r\na b: c\r\nA: b", [("A", "b")]),
        (STATUS, [("Nats-Pending-Messages", "1")]),
    ],
)
def test_lines_that_are_no_header_are_skipped(raw: bytes, expected: list[tuple[str, str]]) -> None:
    assert header.pairs(raw) == expected


def test_the_first_of_a_repeated_name_wins() -> None:
    assert header.parse(b"NATS/1.0\r\nA: 1\r\nA: 2\r\n\r\n") == {"A": "1"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"traceparent", b"00-x"),
        (b"A", b"b"),
        (b"a", b"b"),
        (b"parent", None),
        (b"00-x", None),
        (b"Empty", b""),
    ],
)
def test_one_header_is_found_whatever_its_case(name: bytes, expected: bytes | None) -> None:
    raw = b"NATS/1.0\r\nA: b\r\nTraceParent:00-x\r\nEmpty:\r\n\r\n"
    assert header.get(raw, name) == expected


def test_what_the_server_adds_is_told_from_what_was_stored_under_that_name() -> None:
    block = b"NATS/1.0 404 No\r\nNats-Sequence: 1\r\nnats-sequence: x\r\nA: b\r\nNats-Sequence: 17\r\n\r\n"
    assert header.last(block, b"Nats-Sequence") == b"17"
    assert header.get(block, b"Nats-Sequence") == b"1"
    assert header.last(block, b"Nats-Subject") is None


def test_the_last_header_of_a_block_cut_short_is_found() -> None:
    assert header.get(b"NATS/1.0\r\nA: b", b"a") == b"b"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (STATUS, (408, "Request Timeout")),
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 0\r\n\r\n", (100, "Idle Heartbeat")),
        (b"NATS/1.0 503\r\n\r\n", (503, "")),
        (b"NATS/1.0   404   No Messages\r\n\r\n", (404, "No Messages")),
        (b"NATS/1.0\r\nStatus: 404\r\n\r\n", None),
        (b"NATS/1.0 abc\r\n\r\n", None),
        (b"", None),
    ],
)
def test_a_status_is_told_from_a_message(raw: bytes, expected: tuple[int, str] | None) -> None:
    assert header.status(raw) == expected


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("", "x", "empty"),
        ("a:b", "x", "colon"),
        ("a: b", "x", "colon"),
        ("a b", "x", "whitespace"),
        ("a\r\nb", "x", "control"),
        ("a", "x\r\nEvil: y", "value of header a"),
        ("a", "x\n", "value of header a"),
        ("a", "\r", "value of header a"),
    ],
)
def test_what_could_smuggle_in_a_header_is_refused(name: str, value: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        header.encode([(name, value)])


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("traceparent", True),
        ("Content-Type", True),
        ("Nats-Stream-Source", False),
        ("Nats-Msg-Id", False),
        ("nats-msg-id", False),
        ("Nats-Expected-Last-Subject-Sequence", False),
        ("Nats-TTL", False),
        ("Nats-Rollup", False),
        ("Nats-Batch-Commit", False),
        ("Nats-Schedule", False),
        ("Nats-Scheduler", False),
        ("Nats-Schedule-Target", False),
        ("Nats-Trace-Dest", False),
        ("Nats-Incr", False),
    ],
)
def test_a_copy_carries_no_header_that_makes_the_server_act(name: str, *, kept: bool) -> None:
    assert header.forwarded([(name, "x")]) == ([(name, "x")] if kept else [])
