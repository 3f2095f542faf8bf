"""Settlement: how a message is settled, by the outcome of its attempt.

Rule 1: success is acknowledged.
Rule 2: a failure is retried while the policy allows the error and attempts are left. `Retry` and `Reject` need no policy for that,
        and a timeout is judged as a TimeoutError.
Rule 3: if the message would be older than its function accepts at its next attempt, it ends now, with the error of this attempt. A
        message that is found too old later ends with the error of its last attempt, if that is known.
Rule 4: everything else ends as a dead letter, under the reason that ended it.
"""

from __future__ import annotations

from math import inf
from typing import Literal, TypeAlias, assert_never

from msgspec import Struct

from runner.core import raised
from runner.core.retry import RetryPolicy
from runner.core.signals import Reject, Retry

Reason: TypeAlias = Literal[
    "rejected", "undecodable", "exhausted", "timeout", "expired", "crashed", "object_missing"
]


class Succeeded(Struct, frozen=True):
    """The handler returned, and its outputs are stored."""


class Failed(Struct, frozen=True):
    """The handler raised."""

    error: BaseException


class TimedOut(Struct, frozen=True):
    """The handler took longer than `seconds`."""

    seconds: float


class Undecodable(Struct, frozen=True):
    """The body or a subject token does not fit its annotation."""

    error: Exception


class Last(Struct, frozen=True):
    """The error of an earlier attempt."""

    error: str
    message: str
    traceback: str = ""


class Expired(Struct, frozen=True):
    """The message is older than its function accepts; both in seconds."""

    age: float
    max_age: float
    last: Last | None = None
    """The error of its last attempt; None: the message has not run, or the error is not known."""


class Crashed(Struct, frozen=True):
    """The message killed its process in each of `starts` recorded starts."""

    starts: int


Outcome: TypeAlias = Succeeded | Failed | TimedOut | Undecodable | Expired | Crashed


class Ack(Struct, frozen=True):
    """Acknowledge the message: the stream does not deliver it again."""


class Nak(Struct, frozen=True):
    """Have the message delivered again after `delay` seconds."""

    delay: float


class Dead(Struct, frozen=True):
    """Store the message as a dead letter, then terminate it."""

    reason: Reason
    error: str
    """The name of the exception's type."""
    message: str
    error_object: BaseException | None = None
    """The exception, for its traceback; None when no code of the user failed just now."""
    traceback: str = ""
    """The traceback of an earlier attempt."""


Settlement: TypeAlias = Ack | Nak | Dead

ACK = Ack()


def settle(
    outcome: Outcome, attempt: int, policy: RetryPolicy, noise: float, left: float = inf
) -> Settlement:
    """Decide how a message is settled after `attempt` (1 is the first).

    `noise` is a random number in [0, 1), and `left` the seconds until the message is older than its function accepts.
    """
    settlement = _settle(outcome, attempt, policy, noise)
    if isinstance(settlement, Nak) and settlement.delay >= left and (last := failure(outcome)) is not None:
        why = f"a retry in {settlement.delay:.3g} s would be past the function's max_age"
        error = only_member(outcome.error) if isinstance(outcome, Failed) else None
        return Dead("expired", last.error, _joined(last.message, why), error)
    return settlement


def failure(outcome: Outcome) -> Last | None:
    """The error of an attempt as text; None if no handler failed."""
    match outcome:
        case Failed(error):
            only = only_member(error)
            return Last(raised.name(only), raised.message(only))
        case TimedOut(seconds):
            return Last("TimeoutError", f"no result within {seconds:g} s")
        case _:
            return None


def attempts_made(outcome: Outcome, attempt: int) -> int:
    """How often the handler has run, when `attempt` is the attempt that this is or would have been."""
    match outcome:
        case Expired():
            return attempt - 1
        case Crashed(starts):
            return max(attempt - 1, starts)
        case _:
            return attempt


def _settle(outcome: Outcome, attempt: int, policy: RetryPolicy, noise: float) -> Settlement:
    match outcome:
        case Succeeded():
            return ACK
        case Failed(error):
            return _settle_failure(only_member(error), attempt, policy, noise)
        case TimedOut(seconds):
            return _settle_timeout(seconds, attempt, policy, noise)
        case Undecodable(error):
            return _dead("undecodable", error)
        case Expired(age, max_age, last):
            why = f"{age:.1f} s old, over the function's max_age of {max_age:g} s"
            if last is None:
                return Dead("expired", "Expired", why)
            return Dead("expired", last.error, _joined(last.message, why), traceback=last.traceback)
        case Crashed(starts):
            return Dead("crashed", "Crashed", f"its process died in each of {starts} recorded starts")
        case _:
            assert_never(outcome)


def _settle_failure(error: BaseException, attempt: int, policy: RetryPolicy, noise: float) -> Settlement:
    if isinstance(error, Reject):
        return _dead("rejected", error)
    if not isinstance(error, Retry) and policy.verdict(error) == "reject":
        return _dead("rejected", error)
    if attempt >= policy.attempts:
        return _dead("exhausted", error)
    if isinstance(error, Retry) and error.after is not None:
        return Nak(policy.asked(error.after))
    return Nak(policy.wait(attempt, noise))


def _settle_timeout(seconds: float, attempt: int, policy: RetryPolicy, noise: float) -> Settlement:
    error = TimeoutError(f"no result within {seconds:g} s")
    if attempt >= policy.attempts or policy.verdict(error) == "reject":
        return Dead("timeout", "TimeoutError", str(error))
    return Nak(policy.wait(attempt, noise))


def _joined(message: str, why: str) -> str:
    return f"{message} ({why})" if message else why


def only_member(error: BaseException) -> BaseException:
    """Unwrap groups of one exception: a task group wraps an exception of a handler's child task, even `Reject`."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _dead(reason: Reason, error: BaseException) -> Dead:
    return Dead(reason, raised.name(error), raised.message(error), error)
