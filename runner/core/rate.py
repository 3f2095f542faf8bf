"""A rate: how many a second, over the last 10 s."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 10.0


class Rate:
    """The rate of one count, which grows from 0; times are readings of one clock, in seconds."""

    __slots__ = ("_marks", "_started")

    def __init__(self, now: float) -> None:
        self._started = now, 0
        self._marks: deque[tuple[float, int]] = deque()

    def mark(self, now: float, count: int) -> None:
        """Remember the count at this time; called about once a second."""
        self._marks.append((now, count))
        while now - self._marks[0][0] > WINDOW_SECONDS:
            self._marks.popleft()

    def read(self, now: float, count: int) -> float:
        """Compute the rate from the count at this time."""
        since, before = self._marks[0] if self._marks else self._started
        return (count - before) / max(now - since, 1e-3)
