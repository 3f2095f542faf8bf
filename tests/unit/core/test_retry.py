"""Retry policies: waits within their bounds, and which errors are worth another attempt."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.retry import LONGEST, RetryPolicy

attempts = st.integers(1, 10**9)
noises = st.floats(0, 1, exclude_max=True)
seconds = st.floats(0, LONGEST)


@given(
    seconds,
    st.floats(1, 1e6),
    seconds | st.just(math.inf),
    st.sampled_from(["full", "equal", "none"]),
    attempts,
    noises,
)
def test_a_growing_wait_stays_within_its_jitter_and_its_cap(
    delay: float, factor: float, max_delay: float, jitter: Any, attempt: int, noise: float
) -> None:
    policy = RetryPolicy(delay=delay, factor=factor, max_delay=max_delay, jitter=jitter)
    full = RetryPolicy(delay=delay, factor=factor, max_delay=max_delay, jitter="none").wait(attempt, 0.0)
    floor = {"full": 0.0, "equal": full / 2, "none": full}[jitter]
    assert min(delay, max_delay) <= full <= min(max_delay, LONGEST)
    assert floor <= policy.wait(attempt, noise) <= full


@given(seconds, seconds, attempts, noises)
def test_a_random_wait_lies_between_low_and_high(a: float, b: float, attempt: int, noise: float) -> None:
    low, high = sorted((a, b))
    assert low <= RetryPolicy.random(low, high).wait(attempt, noise) <= high * (1 + 1e-9)


@given(st.lists(seconds, min_size=1, max_size=5), st.integers(1, 20), noises)
def test_a_sequence_waits_its_seconds_in_turn_and_repeats_the_last(
    waits: list[float], attempt: int, noise: float
) -> None:
    expected = waits[attempt - 1] if attempt <= len(waits) else waits[-1]
    assert RetryPolicy.sequence(*waits).wait(attempt, noise) == expected


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        (RetryPolicy(jitter="none"), [1, 2, 4, 8, 16]),
        (RetryPolicy(delay=2, max_delay=5, jitter="none"), [2, 4, 5, 5, 5]),
        (RetryPolicy(delay=600, jitter="none"), [300, 300, 300, 300, 300]),
        (RetryPolicy(delay=0), [0, 0, 0, 0, 0]),
        (RetryPolicy(), [0.5, 1, 2, 4, 8]),
        (RetryPolicy(jitter="equal"), [0.75, 1.5, 3, 6, 12]),
        (RetryPolicy.fixed(3), [3, 3, 3, 3, 3]),
        (RetryPolicy.random(2, 4), [3, 3, 3, 3, 3]),
        (RetryPolicy.sequence(1, 5, 30), [1, 5, 30, 30, 30]),
    ],
)
def test_waits_with_luck_in_the_middle(policy: RetryPolicy, waits: list[float]) -> None:
    assert [policy.wait(attempt, 0.5) for attempt in range(1, 6)] == waits


@pytest.mark.parametrize("delay", [0.0, 1e-300, 1.0])
def test_a_huge_attempt_does_not_overflow(delay: float) -> None:
    policy = RetryPolicy(delay=delay, factor=1e300, max_delay=math.inf, jitter="none")
    assert policy.wait(sys.maxsize, 0.0) == (LONGEST if delay else 0.0)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy(), 5),
        (RetryPolicy(attempts=1), 1),
        (RetryPolicy.fixed(1), 5),
        (RetryPolicy.fixed(1, attempts=9), 9),
        (RetryPolicy.random(1, 2, attempts=7), 7),
        (RetryPolicy.sequence(1, 5, 30), 4),
        (RetryPolicy.sequence(1, 5, 30, attempts=10), 10),
    ],
)
def test_attempts_are_those_asked_for_or_one_more_than_the_waits(policy: RetryPolicy, expected: int) -> None:
    assert policy.attempts == expected


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": 1.5}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"delay": -1}, "delay"),
        ({"delay": math.nan}, "delay"),
        ({"delay": math.inf}, "delay"),
        ({"delay": "1s"}, "delay"),
        ({"factor": 0.5}, "factor"),
        ({"factor": math.inf}, "factor"),
        ({"max_delay": -1}, "max_delay"),
        ({"max_delay": math.nan}, "max_delay"),
        ({"jitter": "some"}, "jitter"),
        ({"retry_on": ValueError}, "retry_on"),
        ({"retry_on": (int,)}, "retry_on"),
        ({"reject_on": [ValueError]}, "reject_on"),
        ({"waits": (1, -1)}, "wait"),
        ({"spread": (2, 1)}, "low"),
        ({"spread": (-1, 1)}, "low"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_at_birth(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        RetryPolicy(**fields)


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        RetryPolicy.sequence()


@pytest.mark.parametrize(
    ("policy", "error", "verdict"),
    [
        (RetryPolicy(), ValueError(), "retry"),
        (RetryPolicy(), SystemExit(), "retry"),
        (RetryPolicy(), KeyboardInterrupt(), "retry"),
        (RetryPolicy(retry_on=(OSError,)), ValueError(), "reject"),
        (RetryPolicy(retry_on=(OSError,)), ConnectionError(), "retry"),
        (RetryPolicy(retry_on=(OSError,)), SystemExit(), "retry"),
        (RetryPolicy(retry_on=()), ValueError(), "reject"),
        (RetryPolicy(reject_on=(LookupError,)), KeyError(), "reject"),
        (RetryPolicy(retry_on=(KeyError,), reject_on=(LookupError,)), KeyError(), "reject"),
        (RetryPolicy(reject_on=(SystemExit,)), SystemExit(), "reject"),
        (RetryPolicy.fixed(1, reject_on=(ValueError,)), ValueError(), "reject"),
        (RetryPolicy.random(1, 2, retry_on=(OSError,)), ValueError(), "reject"),
    ],
)
def test_reject_on_wins_over_retry_on(policy: RetryPolicy, error: BaseException, verdict: str) -> None:
    assert policy.verdict(error) == verdict
