"""Settlement: every outcome in every attempt, as a table."""

from __future__ import annotations

import pickle
import re

import pytest

from runner.core.retry import LONGEST, RetryPolicy
from runner.core.settlement import (
    ACK,
    Ack,
    Crashed,
    Dead,
    Expired,
    Failed,
    Last,
    Nak,
    Outcome,
    Settlement,
    Succeeded,
    TimedOut,
    Undecodable,
    attempts_made,
    settle,
)
from runner.core.signals import PartialFailure, Reject, Retry

POLICY = RetryPolicy(attempts=3, delay=4.0, factor=2.0, jitter="full", reject_on=(LookupError,))
BOOM = ValueError("boom")
MISSING = KeyError("missing")
NO = Reject("no")
AGAIN = Retry("again")
SOON = Retry("soon", after=60.0)
GARBLED = ValueError("garbled")


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("tasks", list(errors))


@pytest.mark.parametrize(
    ("outcome", "attempt", "expected"),
    [
        (Succeeded(), 1, Ack()),
        (Succeeded(), 99, Ack()),
        (Failed(BOOM), 1, Nak(2.0)),
        (Failed(BOOM), 2, Nak(4.0)),
        (Failed(BOOM), 3, Dead("exhausted", "ValueError", "boom", BOOM)),
        (Failed(BOOM), 4, Dead("exhausted", "ValueError", "boom", BOOM)),
        (Failed(MISSING), 1, Dead("rejected", "KeyError", "'missing'", MISSING)),
        (Failed(NO), 1, Dead("rejected", "Reject", "no", NO)),
        (Failed(NO), 3, Dead("rejected", "Reject", "no", NO)),
        (Failed(AGAIN), 1, Nak(2.0)),
        (Failed(SOON), 1, Nak(60.0)),
        (Failed(SOON), 2, Nak(60.0)),
        (Failed(SOON), 3, Dead("exhausted", "Retry", "soon", SOON)),
        (Failed(Retry(after=1e300)), 1, Nak(LONGEST)),
        (Failed(SystemExit(1)), 1, Nak(2.0)),
        (Failed(group(NO)), 1, Dead("rejected", "Reject", "no", NO)),
        (Failed(group(group(SOON))), 1, Nak(60.0)),
        (Failed(group(BOOM, NO)), 1, Nak(2.0)),
        (TimedOut(30.0), 1, Nak(2.0)),
        (TimedOut(30.0), 3, Dead("timeout", "TimeoutError", "no result within 30 s")),
        (Undecodable(GARBLED), 1, Dead("undecodable", "ValueError", "garbled", GARBLED)),
        (
            Expired(90.0, 60.0),
            1,
            Dead("expired", "Expired", "90.0 s old, over the function's max_age of 60 s"),
        ),
        (
            Expired(90.0, 60.0, Last("ValueError", "no", "Traceback …")),
            2,
            Dead(
                "expired",
                "ValueError",
                "no (90.0 s old, over the function's max_age of 60 s)",
                None,
                "Traceback …",
            ),
        ),
        (Crashed(3), 4, Dead("crashed", "Crashed", "its process died in each of 3 recorded starts")),
    ],
    ids=repr,
)
def test_every_outcome_is_settled(outcome: Outcome, attempt: int, expected: Settlement) -> None:
    assert settle(outcome, attempt, POLICY, 0.5) == expected


@pytest.mark.parametrize(
    ("outcome", "left", "expected"),
    [
        (Failed(BOOM), 2.1, Nak(2.0)),
        (Failed(BOOM), 2.0, f"{BOOM} (a retry in 2 s would be past the function's max_age)"),
        (Failed(group(BOOM)), 0.0, f"{BOOM} (a retry in 2 s would be past the function's max_age)"),
        (TimedOut(30.0), -5.0, "no result within 30 s (a retry in 2 s would be past the function's max_age)"),
        (Failed(Retry(after=0.0)), -1.0, "a retry in 0 s would be past the function's max_age"),
        (Failed(NO), 0.0, "no"),
        (Succeeded(), -1.0, ACK),
    ],
    ids=repr,
)
def test_a_retry_that_would_come_too_late_is_none(
    outcome: Outcome, left: float, expected: Settlement | str
) -> None:
    settlement = settle(outcome, 1, POLICY, 0.5, left)
    if isinstance(expected, str):
        assert isinstance(settlement, Dead)
        assert (settlement.reason, settlement.message) == (
            "rejected" if expected == "no" else "expired", expected,
        )  # fmt: skip
        assert settlement.error_object is not None or isinstance(outcome, TimedOut)
    else:
        assert settlement == expected


@pytest.mark.parametrize(
    ("outcome", "attempt", "made"),
    [
        (Expired(9.0, 6.0), 1, 0), (Expired(9.0, 6.0), 3, 2), (Crashed(3), 5, 4), (Crashed(3), 1, 3),
        (Failed(BOOM), 3, 3), (TimedOut(1.0), 2, 2), (Undecodable(GARBLED), 1, 1),
    ],
    ids=repr,
)  # fmt: skip
def test_an_attempt_that_never_ran_is_not_counted(outcome: Outcome, attempt: int, made: int) -> None:
    assert attempts_made(outcome, attempt) == made


def test_a_signal_is_obeyed_whatever_the_policy_says_of_its_type() -> None:
    policy = RetryPolicy(retry_on=(OSError,), reject_on=(Retry,), jitter="none")
    assert settle(Failed(AGAIN), 1, policy, 0.0) == Nak(1.0)


@pytest.mark.parametrize(
    "policy", [RetryPolicy(reject_on=(TimeoutError,)), RetryPolicy(retry_on=(ValueError,))]
)
def test_a_timeout_is_judged_as_the_timeout_error_it_is(policy: RetryPolicy) -> None:
    settlement = settle(TimedOut(0.5), 1, policy, 0.0)
    assert settlement == Dead("timeout", "TimeoutError", "no result within 0.5 s")


def test_an_error_that_cannot_tell_its_message_is_settled_all_the_same() -> None:
    class Mute(Exception):  # noqa: N818  as users name theirs
        def __str__(self) -> str:
            raise RuntimeError

    error = Mute()
    assert settle(Failed(error), 5, RetryPolicy(), 0.0) == Dead(
        "exhausted", "Mute", "(its __str__ raised)", error
    )


@pytest.mark.parametrize(("after", "kept"), [(None, None), (0, 0.0), (2, 2.0), (-3.0, 0.0)])
def test_retry_keeps_its_reason_and_a_delay_that_is_never_negative(
    after: float | None, kept: float | None
) -> None:
    signal = Retry("bank is closed", after=after)
    assert (str(signal), signal.reason, signal.after) == ("bank is closed", "bank is closed", kept)


@pytest.mark.parametrize("after", [float("nan"), float("inf")])
def test_retry_refuses_a_delay_that_is_no_number_of_seconds(after: float) -> None:
    with pytest.raises(ValueError, match="after"):
        Retry(after=after)


def test_signals_survive_the_way_from_another_process() -> None:
    assert pickle.loads(pickle.dumps(Retry("soon", after=2.0))).after == 2.0
    assert pickle.loads(pickle.dumps(Reject("no"))).reason == "no"
    assert list(pickle.loads(pickle.dumps(PartialFailure({1: BOOM}))).failures) == [1]


def test_a_partial_failure_names_what_failed() -> None:
    failure = PartialFailure({4: BOOM, 2: MISSING})
    assert failure.failures == {4: BOOM, 2: MISSING}
    assert str(failure) == "2 of the batch failed, first at index 2"


@pytest.mark.parametrize("failures", [{}, {-1: BOOM}, {0: "boom"}, [0], {0}])
def test_a_partial_failure_that_names_nothing_is_refused(failures: dict[int, BaseException]) -> None:
    with pytest.raises(ValueError, match="PartialFailure"):
        PartialFailure(failures)


@pytest.mark.parametrize("index", [-1, 0.0, "0", None, True, (0,)])
def test_what_is_no_index_is_told(index: object) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(repr(index))} is no index"):
        PartialFailure({index: BOOM})  # type: ignore[dict-item]


def test_an_index_of_another_library_is_a_number() -> None:
    class Whole:
        def __index__(self) -> int:
            return 3

    assert PartialFailure({Whole(): BOOM}).failures == {3: BOOM}  # type: ignore[dict-item]
