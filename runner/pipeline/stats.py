"""What a function has done in this process: counters and a latency histogram, cheap enough for every message."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, TypeAlias

from runner.core.histogram import LONGEST, Histogram, index
from runner.jetstream.reply import stored_at

MOST_READ = 200
"""Of twice as many messages between two sweeps, every third, fifth… one is read, and counts for those between."""
Traced: TypeAlias = tuple[str, float, float]
"""The id of a trace, the seconds in the handler, and when they ended, in Unix time."""
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
        "_server_now",
        "acked",
        "dead",
        "durations",
        "ended",
        "failed",
        "latency",
        "outputs",
        "parked",
        "redelivered",
        "retried",
        "spans",
        "started_at",
        "takeovers",
        "traced",
        "wait",
    )

    def __init__(self, server_now: Callable[[], float] = time.time) -> None:
        """`server_now` is Unix time by the clock that messages are stored by."""
        self._server_now = server_now
        self.acked = 0
        self.failed = 0
        """Attempts that did not succeed, retried and dead-lettered ones alike."""
        self.retried = 0
        self.dead: dict[str, int] = {}
        """Dead letters by reason."""
        self.parked = 0
        """Messages that were given up, and whose key waits behind them."""
        self.redelivered = 0
        """Attempts of messages that the server had delivered before."""
        self.outputs = 0
        """Messages that handlers made, and that are stored."""
        self.durations: list[float] = []
        """Seconds in the handler, not yet counted: appending is all that the hot path pays."""
        self._histogram = Histogram()
        self.ended: list[Any] = []
        """Of each message that succeeded at its first attempt: its reply, when its handler began, and when it was settled."""
        self.spans: list[Any] = []
        """Of each attempt with a span: the span, and the seconds in the handler."""
        self.traced: dict[int, Traced] = {}
        """The last one whose trace is kept, by the bucket of its duration."""
        self.wait = Histogram()
        """Time from the publish to the start of the first attempt."""
        self.latency = Histogram()
        """Time from the publish until it was settled, of those that succeeded."""
        self.takeovers = Histogram()
        """Time from the claim of another instance's shard until its messages may start."""
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
        if self.spans:
            self._keep_traced()
        ended, self.ended = self.ended, []
        number = len(ended) // 3
        if number:
            ahead = self._ahead()
            step = number // MOST_READ | 1  # odd: messages of two kinds may alternate
            for at in range(0, number, step):
                reply, started, settled = ended[at * 3 : at * 3 + 3]
                stored = stored_at(reply) / 1e9 - ahead
                times = min(step, number - at)
                self.wait.count(int((started - stored) * 1e6), times)
                self.latency.count(int((settled - stored) * 1e6), times)

    def took(self, seconds: float, span: Any) -> None:
        """Note the time of an attempt in its handler, and its span where it has one."""
        self.durations.append(seconds)
        if span is not None:
            self.spans += (span, seconds)

    def _keep_traced(self) -> None:
        spans, self.spans = self.spans, []
        for span, seconds in zip(spans[::2], spans[1::2], strict=True):
            if span.sampled:
                self.traced[index(min(int(seconds * 1e6), LONGEST))] = span.trace_id, seconds, time.time()

    def _ahead(self) -> float:
        """Seconds that the server's Unix time is more than the monotonic time here."""
        return self._server_now() - time.monotonic()

    def waited(self, stored_ns: int, started: float) -> None:
        """A first attempt began then, that does not end as most do."""
        self.wait.count(int((started + self._ahead() - stored_ns / 1e9) * 1e6))

    def succeeded(self, stored_ns: int) -> None:
        """A message is settled that did not succeed as most do."""
        self.latency.count(int((self._server_now() - stored_ns / 1e9) * 1e6))

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
