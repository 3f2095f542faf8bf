"""The server's clock, by the times in its answers: how many seconds it is ahead of our own monotonic clock.

Rule 1: the time in an answer lies between the question and the answer's arrival: the shorter that was, the surer the reading.
Rule 2: a reading gets less sure with time, because no two clocks run at the same speed.
Rule 3: a reading that contradicts the one before replaces it, however unsure it is: a clock was set, or this machine slept.
"""

from __future__ import annotations

from msgspec import Struct

DRIFT = 1e-3
"""Seconds by which two clocks may drift apart in one second; far more than real clocks do."""


class ClockReading(Struct, frozen=True):
    """A reading from one answer."""

    ahead: float
    """Unix time at the server minus the monotonic time here."""
    doubt: float
    """Seconds that `ahead` may be off by."""
    taken: float
    """Monotonic time of the answer's arrival."""

    def doubt_at(self, now: float) -> float:
        """Seconds that `ahead` may be off by at a later time."""
        return self.doubt + DRIFT * max(0.0, now - self.taken)


def read(told: float, asked: float, arrived: float) -> ClockReading:
    """Make a reading from an answer with the server's Unix time, and the monotonic times of question and arrival."""
    half = (arrived - asked) / 2
    return ClockReading(told - asked - half, half, arrived)


def surer(known: ClockReading | None, found: ClockReading) -> ClockReading:
    """Choose the reading to go by."""
    if known is None:
        return found
    doubt = known.doubt_at(found.taken)
    contradicts = abs(found.ahead - known.ahead) > doubt + found.doubt
    return found if contradicts or found.doubt <= doubt else known
