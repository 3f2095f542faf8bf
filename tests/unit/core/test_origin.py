"""The origin of a message that was sent back to one function."""

from __future__ import annotations

import pytest

from runner.core import origin
from runner.core.origin import Origin

ORIGIN = Origin("ORDERS", 17, 1_700_000_000_000_000_000, "orders.c1.created")


def test_an_origin_is_read_as_built() -> None:
    assert origin.read(dict(origin.build(ORIGIN))) == ORIGIN


def test_sending_back_keeps_the_messages_own_headers_and_drops_the_dead_letters() -> None:
    headers = [
        ("A", "b"),
        ("Jetrunner-Dead-Reason", "exhausted"),
        ("jetrunner-dead-error", "ValueError"),
        ("Nats-Msg-Id", "m1"),
        ("Nats-Rollup", "all"),
    ]
    assert origin.build(ORIGIN, headers)[:2] == [("A", "b"), (origin.MESSAGE_ID, "m1")]
    assert not any(
        name.lower().startswith(("jetrunner-dead-", "nats-")) for name, _ in origin.build(ORIGIN, headers)
    )


def test_sending_back_twice_keeps_the_last_place_and_the_first_message_id() -> None:
    first = origin.build(ORIGIN, [("Nats-Msg-Id", "m1")])
    moved = Origin("OTHER", 2, 3, "other")
    second = origin.build(moved, [*first, ("Nats-Msg-Id", "m2")])
    assert origin.read(dict(second)) == moved
    assert [value for name, value in second if name == origin.MESSAGE_ID] == ["m1"]
    assert len(second) == len(first)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {origin.STREAM: "ORDERS"},
        {origin.STREAM: "ORDERS", origin.SEQUENCE: "x", origin.TIMESTAMP: "1", origin.SUBJECT: "a"},
        {origin.STREAM: "ORDERS", origin.SEQUENCE: "1", origin.TIMESTAMP: "", origin.SUBJECT: "a"},
        {origin.STREAM: "ORDERS", origin.SEQUENCE: "1", origin.TIMESTAMP: "1", origin.SUBJECT: ""},
    ],
)
def test_half_an_origin_is_none(headers: dict[str, str]) -> None:
    assert origin.read(headers) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (origin.STREAM, ""),
        (origin.STREAM, "OR DERS"),
        (origin.STREAM, "ORDERS.>"),
        (origin.STREAM, "ORDERS\nPUB x"),
        (origin.STREAM, "\udcff"),
        (origin.STREAM, "X" * 256),
        (origin.SEQUENCE, "-1"),
        (origin.SEQUENCE, "1_0"),
        (origin.SEQUENCE, " 1"),
        (origin.SEQUENCE, "٣"),
        (origin.SEQUENCE, str(1 << 63)),
        (origin.SEQUENCE, "9" * 5_000),
        (origin.TIMESTAMP, "-1"),
        (origin.TIMESTAMP, str(1 << 63)),
        (origin.SUBJECT, "a" * 65_536),
        (origin.SUBJECT, "\ud800"),
    ],
)
def test_what_is_no_place_in_a_stream_is_no_origin(field: str, value: str) -> None:
    assert origin.read(dict(origin.build(ORIGIN)) | {field: value}) is None


@pytest.mark.parametrize("subject", ["orders.\udcff", "orders.\x1b", "a" * 65_535, "\udcff" * 65_535])
def test_a_subject_need_be_no_text(subject: str) -> None:
    place = Origin("ORDERS", (1 << 63) - 1, 0, subject)
    assert origin.read(dict(origin.build(place))) == place
