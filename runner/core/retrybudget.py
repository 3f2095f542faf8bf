"""The retry budget: how many failed requests may be asked again, so that retries never multiply an outage.

Rule 1: each request adds a fifth of a retry, and each second adds 10, so that a caller with few requests may retry too.
Rule 2: unused retries decay with a time constant of 10 s. After a long time without retries the budget holds 100, plus 2 for each
        request per second. So a short burst of failures is retried in full, a long one at the rates of rule 1.
"""

from __future__ import annotations

from math import exp

PER_REQUEST = 0.2
PER_SECOND = 10.0
KEPT_SECONDS = 10.0
STEP_SECONDS = 0.01
"""A first try lets unused retries decay at most once in this time, because decay costs more to compute than counting."""


class RetryBudget:
    """The retries that one caller has left; a new caller has those of an idle one."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = PER_SECOND * KEPT_SECONDS
        self._at = 0.0

    def deposit(self, now: float) -> None:
        """Count a request that is sent for the first time."""
        if now >= self._at + STEP_SECONDS:
            self._pass(now)
        self._left += PER_REQUEST

    def withdraw(self, now: float) -> bool:
        """Tell whether a request may be sent again, and count it if so."""
        self._pass(now)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def _pass(self, now: float) -> None:
        """Let retries decay and add new ones for the time since the last look; a clock that goes back counts as standing still."""
        kept = exp(min(0.0, self._at - now) / KEPT_SECONDS)
        self._left = self._left * kept + PER_SECOND * KEPT_SECONDS * (1.0 - kept)
        self._at = max(self._at, now)
