"""Failover: what follows when an instance answers a request with an error, or does not answer it.

Rule 1: a request whose handler has not begun is sent to another instance, whatever the function: nothing runs twice.
Rule 2: a request whose handler may have begun is sent to another instance only if the function is idempotent.
Rule 3: an error that is the asker's fault counts as an answer: it would be the same everywhere.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from runner.core.balancer import Ended
from runner.core.service import CODES, FAILED, LATE, UNAVAILABLE, NotStarted

AfterFailure: TypeAlias = Literal["answer", "elsewhere", "elsewhere within budget"]
"""Give the asker the error; ask another instance; ask another instance if the retry budget allows it."""

FAILURES = frozenset({LATE, FAILED, UNAVAILABLE})
"""Codes of errors that another instance may not have."""


def not_started(told: bytes | None) -> NotStarted | None:
    """Read from the header why the handler has not begun; None: it may have begun."""
    text = told.decode(errors="replace") if told is not None else ""
    return next((each for each in CODES if each == text), None)


def ended(code: int, why: NotStarted | None) -> Ended:
    """What an error says about the instance."""
    if why is not None:
        return "overloaded" if why == "overloaded" else "withdrawn"
    return "failed" if code in FAILURES or code > 503 else "answered"


def after_error(code: int, why: NotStarted | None, *, idempotent: bool) -> AfterFailure:
    """Decide what follows an instance's error."""
    if why == "expired":
        return "answer"
    if why is not None:
        return "elsewhere"
    return "elsewhere within budget" if idempotent and ended(code, why) == "failed" else "answer"
