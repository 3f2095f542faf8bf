"""How many requests may be sent again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.core.retrybudget import RetryBudget


def retries(budget: RetryBudget, now: float) -> int:
    """All that may be sent again now."""
    count = 0
    while budget.withdraw(now):
        count += 1
    return count


def test_a_caller_that_was_idle_may_send_100_again_at_once_and_10_more_each_second() -> None:
    budget = RetryBudget()
    assert retries(budget, 0.0) == 100
    assert retries(budget, 1.0) in {9, 10}
    assert sum(retries(budget, 1.0 + at) for at in range(1, 11)) in range(93, 101)


def test_one_request_in_five_may_be_sent_again_besides() -> None:
    budget = RetryBudget()
    retries(budget, 5.0)
    for _ in range(1000):
        budget.deposit(5.0)
    assert retries(budget, 5.0) in {199, 200}


def test_what_is_not_used_is_forgotten() -> None:
    budget = RetryBudget()
    for at in range(100_000):
        budget.deposit(at / 1000)
    assert retries(budget, 100.0) in range(2090, 2110), "100 and 2 for each request a second"
    for _ in range(5000):
        budget.deposit(100.0)
    assert retries(budget, 200.0) == 100


def test_a_clock_that_goes_back_earns_nothing() -> None:
    budget = RetryBudget()
    retries(budget, 100.0)
    budget.deposit(50.0)
    assert not budget.withdraw(50.0)
    assert not budget.withdraw(100.0)


@given(st.lists(st.tuples(st.floats(0.0, 0.5), st.booleans()), max_size=300))
def test_retries_never_exceed_100_and_a_fifth_of_the_requests_and_10_a_second(
    steps: list[tuple[float, bool]],
) -> None:
    budget, now, requests, again = RetryBudget(), 0.0, 0, 0
    for wait, sends in steps:
        now += wait
        if sends:
            budget.deposit(now)
            requests += 1
        again += budget.withdraw(now)
        assert again <= 100 + requests / 5 + 10 * now + 1e-6
