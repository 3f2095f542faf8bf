"""When an instance is ejected, and for how long."""

from __future__ import annotations

import pytest

from runner.core import ejection


@pytest.mark.parametrize(
    ("instances", "most"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (100, 50)]
)
def test_at_most_half_are_ejected_and_never_the_only_one(instances: int, most: int) -> None:
    assert ejection.most_ejected(instances) == most


@pytest.mark.parametrize(
    ("in_a_row", "requests", "success", "reason"),
    [
        (4, 4, 0.92, None),
        (5, 5, 0.9, "consecutive failures"),
        (1, 19, 0.7, None),
        (1, 20, 0.79, "success rate"),
        (1, 20, 0.8, None),
    ],
)
def test_five_failures_in_a_row_eject_or_a_success_below_80_percent_of_20_requests(
    in_a_row: int, requests: int, success: float, reason: str | None
) -> None:
    assert ejection.failing(in_a_row, requests, success) == reason


@pytest.mark.parametrize(
    ("latency", "typical", "slow"),
    [(0.1, 0.01, True), (0.03, 0.01, False), (0.031, 0.01, True), (0.004, 0.001, False), (9.0, 0.0, False)],
)
def test_slow_is_three_times_as_long_and_five_milliseconds_more_than_what_is_known_of_the_others(
    latency: float, typical: float, slow: bool
) -> None:
    assert ejection.is_slow(latency, typical) == slow


@pytest.mark.parametrize(
    ("seconds", "typical", "slow"), [(0.061, 0.01, True), (0.059, 0.01, False), (9.0, 0.0, False)]
)
def test_a_trial_is_slow_from_five_times_as_long_and_ten_milliseconds_more(
    seconds: float, typical: float, slow: bool
) -> None:
    assert ejection.trial_is_slow(seconds, typical) == slow


@pytest.mark.parametrize(
    ("ejections", "noise", "seconds"),
    [
        (0, 0.5, 1.0),
        (1, 0.5, 2.0),
        (5, 0.5, 32.0),
        (6, 0.5, 60.0),
        (10**9, 0.5, 60.0),
        (0, 0.0, 0.75),
        (6, 1.0, 75.0),
    ],
)
def test_an_ejection_doubles_up_to_a_minute_a_quarter_more_or_less(
    ejections: int, noise: float, seconds: float
) -> None:
    assert ejection.seconds_out(ejections, noise) == seconds


@pytest.mark.parametrize(
    ("ejections", "seconds", "left"), [(3, 59.0, 3), (3, 60.0, 2), (3, 1e9, 0), (0, float("inf"), 0)]
)
def test_each_minute_without_an_ejection_makes_up_for_one(ejections: int, seconds: float, left: int) -> None:
    assert ejection.remembered(ejections, seconds) == left
