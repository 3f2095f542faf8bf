"""traceparent, as W3C Trace Context has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import traceparent
from runner.core.traceparent import TraceParent

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
ids = st.integers(1, 2**64 - 1)


@given(ids, ids, st.booleans())
def test_what_is_written_is_read_again(trace: int, span: int, sampled: bool) -> None:
    parent = TraceParent(f"{trace:032x}", f"{span:016x}", sampled)
    text = traceparent.format(parent)
    assert traceparent.parse(text) == traceparent.parse(text.encode()) == parent


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True),
    ],
)
def test_a_later_version_is_read_as_far_as_it_is_known(value: str, *, sampled: bool) -> None:
    assert traceparent.parse(value) == TraceParent(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        b"",
        "garbage",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01.",
        f"01-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE}-{SPAN}-01\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        b"00-\xff\xfe",
    ],
)
def test_a_malformed_value_is_none(value: bytes | str | None) -> None:
    assert traceparent.parse(value) is None


@given(st.binary(max_size=60))
def test_reading_any_bytes_never_raises(value: bytes) -> None:
    assert traceparent.parse(value) is None


def test_a_derived_trace_id_is_stable_and_tells_messages_apart() -> None:
    places = [("ORDERS", 1, 1), ("ORDERS", 2, 1), ("ORDERS", 1, 2), ("OTHER", 1, 1)]
    made = [traceparent.derived_trace_id(*place) for place in places]
    assert made == [traceparent.derived_trace_id(*place) for place in places]
    assert len(set(made)) == len(places)
    assert all(traceparent.parse(f"00-{trace}-{SPAN}-01") for trace in made)
