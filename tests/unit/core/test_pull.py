"""How many messages are asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.pull import request_size

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
def test_a_pull_is_renewed_when_half_of_it_or_an_eighth_of_the_limit_has_come(
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
