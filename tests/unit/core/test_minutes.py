"""What was done in a minute, and what is left of an error budget."""

from __future__ import annotations

import msgspec
import pytest

from runner.core import minutes
from runner.core.histogram import Histogram
from runner.core.minutes import Minute, MinuteRecord
from runner.core.objective import left, within


def histogram(*seconds: float) -> Histogram:
    found = Histogram()
    for each in seconds:
        found.count(int(each * 1e6))
    return found


def test_what_was_done_in_each_minute_adds_up_to_all_that_was_done() -> None:
    first = Minute(3, 1, 1, 0, minutes.buckets(histogram(0.1, 0.2)))
    second = Minute(5, 2, 1, 1, minutes.buckets(histogram(0.1, 0.2, 4.0)))
    assert minutes.total([first, second.since(first)]) == second
    assert not second.since(second)


def test_requests_add_up_too_and_a_refused_one_alone_counts_as_done() -> None:
    first = Minute(acked=3, failed=2, faulty=1, answers=True)
    second = Minute(acked=3, failed=2, faulty=1, refused=1, answers=True)
    assert second.since(first) == Minute(refused=1, answers=True)
    assert second.since(first)
    assert minutes.total([first, second.since(first)]) == second


def test_a_record_is_read_as_it_was_written() -> None:
    record = MinuteRecord({"charge": Minute(3, 1, 1, 0, minutes.buckets(histogram(0.1)))})
    assert minutes.read(msgspec.json.encode(record)) == record


def test_the_key_of_a_record_tells_its_minute_and_instance_though_that_has_dots() -> None:
    key = minutes.key("shop", 29_940_000, "a.example.org-17-0f")
    assert minutes.place(key) == (29_940_000, "a.example.org-17-0f")
    assert minutes.place("minutes.shop.x") is None


@pytest.mark.parametrize(
    ("share", "wanted", "budget"),
    [(1.0, 0.999, 1.0), (0.9995, 0.999, 0.5), (0.999, 0.999, 0.0), (0.99, 0.999, -9.0), (None, 0.999, None)],
)
def test_an_error_budget_is_used_up_by_the_share_that_may_fail(
    share: float | None, wanted: float, budget: float | None
) -> None:
    assert left(share, wanted) == budget


def test_the_share_within_a_limit_counts_what_is_at_most_so_long() -> None:
    assert within(histogram(0.1, 0.2, 0.3, 4.0), 1.0) == 0.75
    assert within(Histogram(), 1.0) is None
