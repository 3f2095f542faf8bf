"""The retry budget: how many failed requests may be asked again, so that retries never multiply an overload."""

from __future__ import annotations

from math import exp

SHARE = 0.2
"""Retries for each request."""
PER_SECOND = 10.0
"""Retries that are allowed besides, however few requests there are."""
KEPT_SECONDS = 10.0
"""What is not used is forgotten with this time constant."""
STEP_SECONDS = 0.01
"""Time is looked at so often; it costs more than a request."""


class RetryBudget:
    """Requests fill it, and so does time; each retry takes 1 from it. After a long time without retries it holds 100 and 2 for each request a second."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._tokens = PER_SECOND * KEPT_SECONDS
        self._at = 0.0

    def deposit(self, now: float) -> None:
        """Count a request that is sent for the first time."""
        if now - self._at >= STEP_SECONDS:
            self._pass(now)
        self._tokens += SHARE

    def withdraw(self, now: float) -> bool:
        """Tell whether a request may be sent again, and count that."""
        self._pass(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _pass(self, now: float) -> None:
        kept = exp(min(0.0, self._at - now) / KEPT_SECONDS)
        self._tokens = self._tokens * kept + PER_SECOND * KEPT_SECONDS * (1.0 - kept)
        self._at = now
