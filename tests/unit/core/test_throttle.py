"""Which instance takes fewer messages, and what brings it back."""

from __future__ import annotations

import pytest

from runner.core.throttle import TRIAL, Figures, Throttle, is_suspicious, typical

GOOD = Figures(1_000, 10)
BAD = Figures(1_000, 500)
LUCK = 0.5
"""A pause of exactly 1, 2, 4 s."""


@pytest.mark.parametrize(
    ("own", "others", "throttled"),
    [
        (BAD, [GOOD, GOOD], True),
        (BAD, [GOOD], True),
        (BAD, [], False),
        (BAD, [Figures(49, 0)], False),
        (Figures(49, 49), [GOOD, GOOD], False),
        (Figures(50, 50), [GOOD, GOOD], True),
        (Figures(1_000, 30), [GOOD, GOOD], False),
        (Figures(1_000, 60), [GOOD, GOOD], False),
        (Figures(1_000, 61), [GOOD, GOOD], True),
        (Figures(1_000, 300), [Figures(1_000, 100)], False),
        (Figures(1_000, 301), [Figures(1_000, 100)], True),
        (BAD, [BAD, GOOD], False),
        (BAD, [BAD, GOOD, GOOD], True),
        (BAD, [BAD, BAD, GOOD], False),
        (BAD, [Figures(10, 5, throttled=True), GOOD], False),
        (BAD, [Figures(10, 5, throttled=True), GOOD, GOOD], True),
        (BAD, [Figures(10, 0, throttled=True)], False),
    ],
)
def test_an_instance_is_throttled_that_fails_far_more_often_than_the_others(
    own: Figures, others: list[Figures], throttled: bool
) -> None:
    throttle = Throttle()
    assert throttle.compare(own, others, 100.0, LUCK) is throttled
    assert (throttle.state == "paused") is throttled


def test_the_others_are_asked_only_where_enough_fails() -> None:
    assert is_suspicious(Figures(50, 3))
    assert not is_suspicious(Figures(49, 49))
    assert not is_suspicious(Figures(1_000, 50))
    assert not is_suspicious(Figures(0, 0))


def test_of_two_in_the_middle_the_one_that_fails_more_often_counts() -> None:
    assert typical([Figures(100, 1), Figures(100, 9)]) == 0.09
    assert typical([Figures(100, 1), Figures(100, 9), Figures(100, 50)]) == 0.09
    assert typical([Figures(10, 1)]) is None


def test_pauses_grow_and_three_good_trials_bring_it_back() -> None:
    throttle, now, others = Throttle(), 100.0, [GOOD, GOOD]
    throttle.compare(BAD, others, now, LUCK)
    for seconds in (1.0, 2.0, 4.0):
        assert throttle.until == now + seconds
        assert not throttle.try_again(now + seconds - 0.01)
        assert throttle.try_again(now + seconds)
        assert throttle.state == "trial"
        now += seconds
        assert throttle.tried(TRIAL, others, now, LUCK) == "paused"
    assert throttle.until == now + 8.0
    now += 8.0
    assert throttle.try_again(now)
    for failed in (0, 1, 0):
        assert throttle.state == "trial"
        throttle.tried(failed, others, now, LUCK)
    assert throttle.state == "full"
    throttle.compare(BAD, others, now + 1.0, LUCK)
    assert throttle.until == now + 1.0 + 16.0, "what was a moment ago counts"


def test_a_minute_without_it_makes_up_for_one_of_before() -> None:
    throttle = Throttle()
    throttle.compare(BAD, [GOOD], 100.0, LUCK)
    throttle.try_again(101.0)
    for _ in range(3):
        throttle.tried(0, [GOOD], 101.0, LUCK)
    throttle.compare(BAD, [GOOD], 162.0, LUCK)
    assert throttle.until == 163.0


def test_it_comes_back_where_nobody_else_is_left() -> None:
    throttle = Throttle()
    throttle.compare(BAD, [GOOD], 100.0, LUCK)
    assert throttle.try_again(101.0)
    throttle.tried(TRIAL, [], 101.0, LUCK)
    assert throttle.state == "full"


def test_a_trial_that_fails_once_by_chance_is_good() -> None:
    throttle = Throttle()
    throttle.compare(BAD, [GOOD], 100.0, LUCK)
    throttle.try_again(101.0)
    throttle.tried(2, [GOOD], 101.0, LUCK)
    assert throttle.state == "paused"
