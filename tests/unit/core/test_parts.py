"""Places of parts in headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import header, parts
from runner.core.origin import Origin
from runner.core.parts import DEEPEST, MOST, Part

BATCH = "0123456789abcdef" * 2
ORIGIN = Origin("ORDERS", 7, 1_700_000_000_000_000_000, "orders.1")


def block(**fields: str) -> bytes:
    return header.encode([(f"Jetrunner-{name.title()}", value) for name, value in fields.items()])


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Part, ...]:
    found = []
    for number in range(draw(st.integers(1, DEEPEST))):
        count = draw(st.integers(-1, MOST))
        found.append(Part(f"{number:032x}", draw(st.integers(0, max(0, count - 1))), count))
    return tuple(found)


@given(stacks())
def test_a_stack_is_read_as_it_was_written(stack: tuple[Part, ...]) -> None:
    written = header.encode([("Traceparent", "00-x"), *parts.write(stack).items(), ("Other", "y")])
    assert parts.read(written) == stack
    assert parts.read(b"NATS/1.0\r\n" + parts.lines(written) + b"\r\n") == stack


@pytest.mark.parametrize(
    "fields",
    [
        {"batch": BATCH},
        {"batch": BATCH, "index": "0"},
        {"batch": BATCH, "index": "1", "count": "1"},
        {"batch": BATCH, "index": "-1", "count": "1"},
        {"batch": BATCH, "index": "1e3", "count": "5000"},
        {"batch": BATCH, "index": "٣", "count": "5"},
        {"batch": BATCH, "index": "0", "count": str(MOST + 1)},
        {"batch": BATCH, "index": "0", "count": "9" * 400},
        {"batch": BATCH.upper(), "index": "0", "count": "1"},
        {"batch": "*", "index": "0", "count": "1"},
        {"batch": f"{BATCH}.>", "index": "0", "count": "1"},
        {"batch": f"{BATCH},{BATCH}", "index": "0", "count": "1"},
        {"batch": ",".join([BATCH] * 9), "index": ",".join("0" * 9), "count": ",".join("1" * 9)},
        {"batch": "", "index": "", "count": ""},
    ],
)
def test_what_tells_no_whole_place_is_no_part(fields: dict[str, str]) -> None:
    assert parts.read(block(**fields)) == ()


def test_what_has_no_such_headers_is_no_part() -> None:
    assert parts.read(None) == ()
    assert parts.read(b"NATS/1.0\r\n\r\n") == ()
    assert parts.lines(b"NATS/1.0\r\nOther: x\r\n\r\n") == b""


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(noise: bytes) -> None:
    parts.read(b"NATS/1.0\r\nJetrunner-Batch: " + noise + b"\r\n\r\n")


def test_an_event_has_the_same_name_whenever_it_is_made_and_no_other_has_it() -> None:
    name = parts.batch_id(ORIGIN, "shop-split")
    assert name == parts.batch_id(ORIGIN, "shop-split")
    others = {
        parts.batch_id(ORIGIN, "shop-other"),
        parts.batch_id(Origin("ORDERS", 8, ORIGIN.timestamp_ns, "orders.1"), "shop-split"),
        parts.batch_id(Origin("ORDERS", 7, ORIGIN.timestamp_ns + 1, "orders.1"), "shop-split"),
    }
    assert len({name, *others}) == 4
