"""How many messages are asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.pull import UNCAPPED, Caps, request_size

counts = st.integers(0, 300)


@pytest.mark.parametrize(
    ("limit", "unsettled", "outstanding", "expected"),
    [
        (64, 0, 0, 64),
        (64, 0, 64, 0),
        (64, 0, 57, 0),
        (64, 0, 56, 8),
        (64, 32, 16, 16),
        (64, 32, 25, 0),
        (16, 0, 14, 0),
        (16, 0, 9, 0),
        (16, 0, 8, 8),
        (16, 10, 0, 6),
        (64, 56, 5, 0),
        (64, 56, 4, 4),
        (64, 64, 0, 0),
        (64, 70, 0, 0),
        (1, 0, 0, 1),
        (1, 0, 1, 0),
        (1, 1, 0, 0),
        (0, 0, 0, 0),
    ],
)
def test_a_pull_is_renewed_when_half_of_it_or_an_eighth_of_the_limit_and_eight_messages_have_come(
    limit: int, unsettled: int, outstanding: int, expected: int
) -> None:
    assert request_size(limit, unsettled, outstanding) == expected


@given(counts, counts, counts)
def test_a_slot_is_reserved_before_its_message_is_asked_for(
    limit: int, unsettled: int, outstanding: int
) -> None:
    asked = request_size(limit, unsettled, outstanding)
    assert asked >= 0
    assert not asked or unsettled + outstanding + asked == limit
    assert asked or outstanding or unsettled >= limit


@pytest.mark.parametrize(
    ("text", "caps"),
    [
        ("Exceeded MaxRequestBatch of 5", Caps(5)),
        ("Exceeded MaxRequestBatch of 0", None),
        ("Exceeded MaxRequestExpires of 1s", Caps(UNCAPPED, 1.0)),
        ("Exceeded MaxRequestExpires of 1m30s", Caps(UNCAPPED, 90.0)),
        ("Exceeded MaxRequestExpires of 1h0m0.5s", Caps(UNCAPPED, 3600.5)),
        ("Exceeded MaxRequestExpires of 250ms", Caps(UNCAPPED, 0.25)),
        ("Exceeded MaxRequestExpires of 10ns", None),
        ("Exceeded MaxRequestExpires of ever", None),
        ("Exceeded MaxWaiting", None),
        ("Consumer is push based", None),
    ],
)
def test_a_refusal_says_what_one_request_may_ask_for(text: str, caps: Caps | None) -> None:
    assert Caps().told(text) == caps


def test_one_cap_leaves_the_other() -> None:
    first = Caps().told("Exceeded MaxRequestBatch of 5")
    assert first is not None
    assert first.told("Exceeded MaxRequestExpires of 1s") == Caps(5, 1.0)
