"""What a function has done in this process: counters and a latency histogram, cheap enough for every message."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

from runner.core.histogram import Histogram

WINDOW_SECONDS = 10.0
RECENT_SECONDS = 60.0


class JoinCounts:
    """What a function that joins parts has done without all of them, since the start."""

    __slots__ = ("late", "missing", "waiting")

    def __init__(self) -> None:
        self.missing = 0
        """Parts that had not come when their event was joined."""
        self.late = 0
        """Parts that came after that, and were dropped."""
        self.waiting = 0
        """Events that wait for parts, as the server last said."""


class Stats:
    """Counters since the start; `rate` over the last ten seconds."""

    __slots__ = (
        "_histogram",
        "_marks",
        "_recent",
        "acked",
        "dead",
        "durations",
        "failed",
        "retried",
        "started_at",
    )

    def __init__(self) -> None:
        self.acked = 0
        self.failed = 0
        """Attempts that did not succeed, retried and dead-lettered ones alike."""
        self.retried = 0
        self.dead: dict[str, int] = {}
        """Dead letters by reason."""
        self.durations: list[float] = []
        """Seconds in the handler, not yet counted: appending is all that the hot path pays."""
        self._histogram = Histogram()
        self.started_at = time.monotonic()
        self._marks: deque[tuple[float, int]] = deque()
        self._recent: deque[tuple[float, int, int]] = deque([(self.started_at, 0, 0)])
        """When, and how many attempts had ended and failed then, over a minute."""

    @property
    def duration(self) -> Histogram:
        """Time in the handler."""
        self.collect()
        return self._histogram

    def collect(self) -> None:
        """Count the durations that were noted since the last time; called about ten times a second."""
        durations, self.durations = self.durations, []
        for us, times in Counter(map(int, map((1e6).__mul__, durations))).items():
            self._histogram.count(us, times)

    @property
    def handled(self) -> int:
        """Messages that ended here, acknowledged or dead-lettered."""
        return self.acked + sum(self.dead.values())

    def mark(self, now: float) -> None:
        """Remember where the count stands; called about once a second."""
        self._marks.append((now, self.handled))
        while now - self._marks[0][0] > WINDOW_SECONDS:
            self._marks.popleft()
        self._recent.append((now, self.attempts, self.failed))
        while now - self._recent[0][0] > RECENT_SECONDS:
            self._recent.popleft()

    @property
    def attempts(self) -> int:
        """Attempts that have ended, whatever came of them."""
        return self.acked + self.failed

    def recent(self) -> tuple[int, int]:
        """How many attempts have ended and failed in the last minute."""
        _, attempts, failed = self._recent[0]
        return self.attempts - attempts, self.failed - failed

    def begin_recent(self, now: float) -> None:
        """Forget what was before."""
        self._recent = deque([(now, self.attempts, self.failed)])

    def rate(self, now: float) -> float:
        """Messages a second over the window."""
        since, count = self._marks[0] if self._marks else (self.started_at, 0)
        return (self.handled - count) / max(now - since, 1e-3)

    def snapshot(self, now: float) -> dict[str, Any]:
        """All of it as plain values; durations as histogram buckets, which can be merged."""
        return {
            "handled": self.handled,
            "acked": self.acked,
            "failed": self.failed,
            "retried": self.retried,
            "dead": dict(self.dead),
            "rate": self.rate(now),
            "duration": self.duration.snapshot(),
            "extremes": self.duration.extremes,
            "recent": self.recent(),
        }
