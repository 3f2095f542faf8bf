"""The histogram: percentiles within their promised error, and sums that survive a journey."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.histogram import LONGEST, SIZE, Histogram, index, lower

durations = st.lists(st.integers(0, LONGEST), min_size=1, max_size=50)


def counted(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.count(value)
    return histogram


@given(durations, st.sampled_from([0, 1, 50, 90, 99, 100]))
def test_a_percentile_is_off_by_less_than_12_percent(values: list[int], p: int) -> None:
    exact = sorted(values)[max(0, math.ceil(len(values) * p / 100) - 1)]
    assert counted(values).percentile(p) == pytest.approx(exact / 1e6, rel=0.12, abs=1e-12)


@pytest.mark.parametrize("us", range(8))
def test_the_smallest_durations_are_exact(us: int) -> None:
    assert counted([us]).percentile(50) == us / 1e6


@given(st.integers(0, LONGEST))
def test_every_duration_lies_in_its_bucket(us: int) -> None:
    bucket = index(us)
    assert 0 <= bucket < SIZE
    assert lower(bucket) <= us < lower(bucket + 1)


def test_buckets_follow_each_other_without_gaps() -> None:
    assert [index(lower(bucket)) for bucket in range(SIZE)] == list(range(SIZE))
    assert lower(SIZE) == LONGEST + 1


@given(durations, durations)
def test_merging_counts_as_if_everything_had_been_counted_in_one(a: list[int], b: list[int]) -> None:
    merged = counted(a)
    merged.merge(counted(b))
    assert merged.snapshot() == counted(a + b).snapshot()
    assert merged.number == len(a) + len(b)
    assert merged.total_us == sum(a) + sum(b)


@given(durations)
def test_a_snapshot_restores_the_histogram(values: list[int]) -> None:
    histogram = counted(values)
    assert Histogram.restore(histogram.snapshot()).buckets == histogram.buckets
    assert Histogram.restore(histogram.snapshot()).snapshot() == histogram.snapshot()


@pytest.mark.parametrize(("us", "counted_as"), [(-5, 0), (LONGEST + 1, LONGEST), (2**80, LONGEST)])
def test_a_duration_out_of_range_counts_as_the_nearer_end(us: int, counted_as: int) -> None:
    assert counted([us]).snapshot() == counted([counted_as]).snapshot()


def test_an_empty_histogram_has_zero_for_every_percentile() -> None:
    assert Histogram().percentile(99) == 0.0
    assert Histogram.restore(Histogram().snapshot()).number == 0


@pytest.mark.parametrize("snapshot", [[], [0] * (SIZE + 2), [0, -1]])
def test_what_is_no_snapshot_is_refused(snapshot: list[int]) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        Histogram.restore(snapshot)


@given(durations, st.sampled_from([0, 1, 50, 90, 99, 100]))
def test_a_percentile_is_none_that_cannot_be(values: list[int], p: int) -> None:
    histogram = counted(values)
    sent = Histogram.restore(histogram.snapshot(), histogram.extremes)
    sent.merge(Histogram())
    for each in (histogram, sent):
        # Half a nanosecond: the mean of two equal numbers may differ from them in its last bit.
        assert min(values) / 1e6 - 5e-10 <= each.percentile(p) <= max(values) / 1e6 + 5e-10


def test_five_seconds_are_five_seconds() -> None:
    """Its bucket begins at 4.2 s, and what was shown was 4.66 s."""
    assert counted([5_000_900, 5_001_300]).percentile(50) == pytest.approx(5.001, abs=0.001)


@pytest.mark.parametrize("extremes", [(9, 5), (0, 5_000_000), (5_000_000, 2**40), (-1, 5_000_000)])
def test_extremes_that_are_not_of_the_snapshot_are_refused(extremes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="extremes"):
        Histogram.restore(counted([5_000_000]).snapshot(), extremes)
