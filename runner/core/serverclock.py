"""The server's clock, as far as its answers tell: how many seconds it is ahead of our own monotonic clock.

Rule 1: an answer tells a time between its question and its arrival: the shorter that was, the surer the reading.
Rule 2: a reading gets less sure with time, for no two clocks run alike.
Rule 3: a reading that contradicts the one before it takes its place, however unsure: a clock was set, or we slept.
"""

from __future__ import annotations

from msgspec import Struct

DRIFT = 1e-3
"""Seconds that two clocks may part in one second; far more than they do."""


class Reading(Struct, frozen=True):
    """What one answer told."""

    ahead: float
    """Unix time at the server, less the monotonic time here."""
    doubt: float
    """Seconds that this may be off by."""
    taken: float
    """Monotonic time of the answer's arrival."""

    def doubt_at(self, now: float) -> float:
        """Seconds that this may be off by at a later time."""
        return self.doubt + DRIFT * max(0.0, now - self.taken)


def read(told: float, asked: float, arrived: float) -> Reading:
    """What an answer tells that holds the server's Unix time, by the monotonic times of question and arrival."""
    half = (arrived - asked) / 2
    return Reading(told - asked - half, half, arrived)


def surer(known: Reading | None, found: Reading) -> Reading:
    """Which of two readings to go by."""
    if known is None:
        return found
    doubt = known.doubt_at(found.taken)
    contradicts = abs(found.ahead - known.ahead) > doubt + found.doubt
    return found if contradicts or found.doubt <= doubt else known
