"""Durations and sizes as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import quantity


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        ("15m", 900 * 10**9),
        ("1h30m", 5_400 * 10**9),
        ("250ms", 250 * 10**6),
        ("1.5s", 1_500 * 10**6),
        ("2d", 172_800 * 10**9),
        ("1w", 604_800 * 10**9),
        ("1us", 1_000),
        ("1µs", 1_000),
        ("7ns", 7),
        (" 15M ", 900 * 10**9),
        ("30", 30 * 10**9),
        ("0.1", 10**8),
        (30, 30 * 10**9),
        (0.1, 10**8),
        (0, 0),
        ("0", 0),
    ],
)
def test_a_duration_is_read_exactly(value: str | float, nanoseconds: int) -> None:
    assert quantity.nanoseconds(value) == nanoseconds
    assert quantity.seconds(value) == pytest.approx(nanoseconds / 1e9)
    assert isinstance(quantity.seconds(value), float)


@pytest.mark.parametrize("value", ["", "m", "15 minutes", "1h 30m", "-5s", "1e3", "5m5", "٣s", "1" * 21])
def test_a_text_that_is_no_duration_is_named(value: str) -> None:
    for read in (quantity.seconds, quantity.nanoseconds):
        with pytest.raises(ValueError, match="is not a duration") as caught:
            read(value)
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [-1, -0.5, math.nan, math.inf, True])
def test_a_number_that_is_no_duration_is_named(value: float) -> None:
    for read in (quantity.seconds, quantity.nanoseconds):
        with pytest.raises(ValueError, match="is not a duration"):
            read(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("1GiB", 2**30),
        ("10MB", 10**7),
        ("1024", 1024),
        ("1.5KiB", 1536),
        ("512 kb", 512_000),
        ("64b", 64),
        ("2tib", 2**41),
        (1024, 1024),
        (0, 0),
    ],
)
def test_a_size_is_read_in_bytes(value: str | int, size: int) -> None:
    assert quantity.size(value) == size


@pytest.mark.parametrize("value", ["", "GB", "1G", "1 potato", "-1", "0.3b", "1.0001KiB", -1, True])
def test_what_is_no_size_is_named(value: str | int) -> None:
    with pytest.raises(ValueError) as caught:
        quantity.size(value)
    assert repr(value) in str(caught.value)


@given(st.integers(0, 2**63 - 1))
def test_what_is_written_is_read_again(value: int) -> None:
    assert quantity.nanoseconds(quantity.format_nanoseconds(value)) == value
    assert quantity.size(quantity.format_size(value)) == value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (900, "15m"),
        (5_400, "1h30m"),
        (0.25, "250ms"),
        (90.5, "1m30.5s"),
        (86_400 * 30, "30d"),
        (2e-6, "2us"),
        (7e-9, "7ns"),
        (3_600.001, "1h0.001s"),
    ],
)
def test_a_duration_is_written_as_people_would(seconds: float, text: str) -> None:
    assert quantity.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1, "1B"), (1024, "1KiB"), (2**30, "1GiB"), (10**7, "10MB"), (1_500, "1500B")],
)
def test_a_size_is_written_in_the_largest_unit_that_holds_it_whole(size: int, text: str) -> None:
    assert quantity.format_size(size) == text
