"""Failover: what becomes of a request whose answer is an error, or that an instance has not answered.

Rule 1: what has not begun is asked again elsewhere, whatever the function: nothing runs twice.
Rule 2: what may have begun is asked again only where the function is idempotent.
Rule 3: an error that the asker has made is an answer: it would be the same everywhere.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from runner.core.balancer import Ended
from runner.core.service import CODES, FAILED, LATE, UNAVAILABLE, NotStarted

Next: TypeAlias = Literal["answer", "elsewhere", "elsewhere within budget"]
"""Tell the asker; ask another instance; ask another one while the retry budget allows."""

FAILURES = frozenset({LATE, FAILED, UNAVAILABLE})
"""Codes of an instance that could not do what another one may."""


def not_started(told: bytes | None) -> NotStarted | None:
    """Why the handler has not begun, by the header; None where it may have."""
    text = told.decode(errors="replace") if told is not None else ""
    return next((each for each in CODES if each == text), None)


def ended(code: int, why: NotStarted | None) -> Ended:
    """What an error says of the instance."""
    if why is not None:
        return "overloaded" if why == "overloaded" else "withdrawn"
    return "failed" if code in FAILURES or code > 503 else "answered"


def after_error(code: int, why: NotStarted | None, *, idempotent: bool) -> Next:
    """What follows an error of an instance."""
    if why == "expired":
        return "answer"
    if why is not None:
        return "elsewhere"
    return "elsewhere within budget" if idempotent and ended(code, why) == "failed" else "answer"
