"""Dead letters: they always fit, keep what names them, and are read back as built."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import deadletter, header
from runner.core.deadletter import DeathFacts
from runner.core.origin import Origin
from runner.core.redaction import Rules
from runner.jetstream import deadletterpage

CONTRACT = {
    f"Jetrunner-Dead-{name}"
    for name in (
        "Reason",
        "Error",
        "Message",
        "Traceback",
        "Stream",
        "Sequence",
        "Subject",
        "Attempts",
        "Function",
        "Time",
    )
}
REQUIRED = CONTRACT - {"Jetrunner-Dead-Traceback"}
FACTS: dict[str, Any] = {
    "project": "shop",
    "function": "charge",
    "stream": "ORDERS",
    "sequence": 17,
    "timestamp_ns": 1_700_000_000_000_000_000,
    "subject": "orders.c1.created",
    "attempts": 5,
    "reason": "exhausted",
    "error": "ValueError",
    "message": "boom",
    "traceback": 'Traceback:\n  File "C:\\new.py", line 1\n    print("a\\n")\nValueError: boom',
    "time": "2026-01-31T12:00:00Z",
}
text = st.text(max_size=30)
names = st.text("abcdefgh-", min_size=1, max_size=10)


def facts(**changes: Any) -> DeathFacts:
    return DeathFacts(**{**FACTS, **changes})


def size(headers: list[tuple[str, str]], body: bytes) -> int:
    return len(header.encode(headers)) + len(body)


@given(
    message=text.map(lambda piece: piece * 90),
    traceback=text.map(lambda piece: piece * 700),
    subject=st.sampled_from(["orders.c1", "s" * 3_000]),
    error=st.sampled_from(["ValueError", "E" * 2_000]),
    original=st.lists(st.tuples(names, text.map(lambda piece: piece * 20)), max_size=6),
    body=st.binary(max_size=40).map(lambda piece: piece * 50),
    max_payload=st.integers(deadletter.LEAST_PAYLOAD, 60_000),
)
def test_a_dead_letter_always_fits_and_keeps_what_names_it(
    message: str,
    traceback: str,
    subject: str,
    error: str,
    original: list[tuple[str, str]],
    body: bytes,
    max_payload: int,
) -> None:
    told = facts(message=message, traceback=traceback, subject=subject, error=error)
    headers, kept = deadletter.fit(deadletter.build(told, original), body, max_payload)
    assert size(headers, kept) <= max_payload
    assert {name for name, _ in headers} >= REQUIRED
    letter = deadletter.read(header.parse(header.encode(headers)), kept, 1, "")
    assert (letter.stream, letter.origin_sequence, letter.reason, letter.function) == (
        "ORDERS",
        17,
        "exhausted",
        "charge",
    )
    assert letter.body_omitted == (kept != body)


def test_what_fits_is_left_alone() -> None:
    headers = deadletter.build(facts(), [("A", "b")])
    assert deadletter.fit(headers, b"body", size(headers, b"body")) == (headers, b"body")


def test_the_traceback_goes_first_then_the_largest_copied_header_then_the_body() -> None:
    original = [("Content-Type", "application/msgpack"), ("Small", "s" * 100), ("Large", "l" * 1_000)]
    headers = deadletter.build(facts(traceback="t" * 2_000), original)
    body = b"b" * 4_000
    whole = size(headers, body)

    def kept(max_payload: int) -> tuple[set[str], bytes]:
        fitting, rest = deadletter.fit(headers, body, max_payload)
        return {name for name, _ in fitting} & {deadletter.TRACEBACK, "Content-Type", "Small", "Large"}, rest

    assert kept(whole - 1) == ({"Content-Type", "Small", "Large"}, body)
    assert kept(whole - 2_100) == ({"Content-Type", "Small"}, body)
    assert kept(whole - 3_100) == ({"Content-Type"}, body)
    # No room for the body any more: what was to make room for it comes back.
    assert kept(whole - 3_300) == ({deadletter.TRACEBACK, "Content-Type", "Small", "Large"}, b"")


def test_headers_stay_within_what_a_stream_takes_of_them_however_much_room_there_is() -> None:
    original = [("Content-Type", "application/msgpack"), ("Large", "l" * 60_000), ("Small", "s" * 1_000)]
    built = deadletter.build(facts(traceback="t" * 32_000, message="m" * 4_000), original)
    headers, body = deadletter.fit(built, b"body", 1 << 20, 100)
    assert size(headers, b"") <= deadletter.LONGEST_HEADERS - 100
    assert {"Content-Type", "Small", deadletter.HEADERS} <= {name for name, _ in headers}
    assert body == b"body"


def test_of_a_repeated_header_all_values_stay_or_none_does() -> None:
    original = [("Tag", "a"), ("Small", "s"), ("tag", "l" * 1_000), ("Tag", "b")]
    headers, body = deadletter.fit(deadletter.build(facts(), original), b"body", 1_400)
    assert [pair for pair in headers if pair[0].lower() in ("tag", "small")] == [("Small", "s")]
    assert (deadletter.HEADERS, "omitted") in headers
    assert body == b"body"


def test_what_was_omitted_is_told() -> None:
    original = [("Large", "l" * 1_000)]
    headers, body = deadletter.fit(deadletter.build(facts(), original), b"b" * 5_000, 1_400)
    letter = deadletter.read(dict(headers), body, 1, "")
    assert letter.body_omitted
    assert letter.headers_omitted
    assert (deadletter.BODY, "omitted") in headers


def test_a_dead_letter_carries_every_header_of_the_contract() -> None:
    assert {name for name, _ in deadletter.build(facts(), [])} >= CONTRACT


def test_a_dead_letter_is_read_back_as_built() -> None:
    original = [
        ("Content-Type", "application/json"),
        ("Nats-Msg-Id", "m1"),
        ("Nats-Expected-Stream", "ORDERS"),
    ]
    raw = header.encode(deadletter.build(facts(), original))
    letter = deadletter.read(header.parse(raw), b"{}", 3, "fallback")
    assert (letter.sequence, letter.time, letter.body) == (3, FACTS["time"], b"{}")
    assert letter.origin == Origin("ORDERS", 17, 1_700_000_000_000_000_000, "orders.c1.created")
    assert letter.traceback == FACTS["traceback"]
    assert (letter.error, letter.message, letter.attempts) == ("ValueError", "boom", 5)
    assert letter.headers == {"Content-Type": "application/json", "Jetrunner-Origin-Msg-Id": "m1"}
    assert not letter.body_omitted
    assert not letter.headers_omitted


@given(st.text(max_size=80))
def test_any_text_of_an_exception_makes_a_legal_header(message: str) -> None:
    headers = deadletter.build(facts(message=message + "\ud800", traceback=message), [("A", message)])
    assert header.parse(header.encode(headers))["Jetrunner-Dead-Reason"] == "exhausted"


def test_the_text_of_an_exception_is_one_line() -> None:
    headers = dict(deadletter.build(facts(message="two\r\nlines\x00"), []))
    assert headers["Jetrunner-Dead-Message"] == "two  lines"
    assert "\n" not in headers["Jetrunner-Dead-Traceback"]


def test_a_long_message_keeps_its_beginning_and_a_long_traceback_its_end() -> None:
    headers = dict(deadletter.build(facts(message="ä" * 9_000, traceback="ö" * 40_000 + "end"), []))
    message, traceback = headers["Jetrunner-Dead-Message"], headers["Jetrunner-Dead-Traceback"]
    assert message.endswith("ä…")
    assert len(message.encode()) <= deadletter.LONGEST_MESSAGE
    assert traceback.startswith("…ö")
    assert traceback.endswith("end")
    assert len(traceback.encode()) <= deadletter.LONGEST_TRACEBACK


@pytest.mark.parametrize("headers", [{}, {"Jetrunner-Dead-Sequence": "x", "Jetrunner-Dead-Attempts": "²"}])
def test_what_somebody_else_stored_is_read_as_far_as_it_goes(headers: dict[str, str]) -> None:
    letter = deadletter.read(headers, b"", 9, "2026-01-31T12:00:00Z")
    assert (letter.sequence, letter.time, letter.origin_sequence, letter.attempts) == (
        9,
        "2026-01-31T12:00:00Z",
        0,
        0,
    )


def test_a_dead_letter_of_a_dead_letter_does_not_pile_up_headers() -> None:
    once = deadletter.build(facts(), [("A", "b"), ("Nats-Msg-Id", "m1")])
    assert deadletter.build(facts(), [*once, ("Nats-Msg-Id", "m2")]) == once


def test_what_is_shown_of_it_has_no_value_of_a_header_that_is_hidden_a_repeated_one_included() -> None:
    pairs = [
        ("Jetrunner-Dead-Message", "neither abcd-1 nor abcd-2 of abcd-3"),
        ("Jetrunner-Dead-Traceback", "line abcd-2\\nline"),
        ("Authorization", "Bearer abcd-1"),
        ("Authorization", "Bearer abcd-2"),
        ("AUTHORIZATION", "abcd-3"),
    ]
    letter = deadletterpage.read(header.encode(pairs), b"").letter
    shown = deadletter.redacted(letter, Rules.of(["authorization"]))
    assert shown.message == "neither [redacted] nor [redacted] of [redacted]"
    assert shown.traceback == "line [redacted]\nline"
    assert set(shown.headers.values()) == {"[redacted]"}
    assert "abcd" not in repr(shown)
    assert "abcd-2" in repr(letter)
