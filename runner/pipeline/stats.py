"""What a function has done in this process: counters and a latency histogram, cheap enough for every message."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from runner.core.histogram import LONGEST, Histogram, index
from runner.core.rate import Rate
from runner.jetstream.reply import stored_at

MOST_READ = 200
"""Beyond about so many messages between two sweeps, only every third, fifth, … one is read, and counts for its neighbours."""
Traced: TypeAlias = tuple[str, float, float]
"""The id of a trace, the seconds in the handler, and when they ended, in Unix time."""
RECENT_SECONDS = 60.0


class JoinCounts:
    """Counters since the start of a function that joins parts: of missing and late parts, and of waiting events."""

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
        "_rate",
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
        """For each message that succeeded at its first attempt: its reply, when its handler began, and when it was settled."""
        self.spans: list[Any] = []
        """For each attempt with a span: the span, and the seconds in the handler."""
        self.traced: dict[int, Traced] = {}
        """By the bucket of its duration, the last attempt whose trace is kept."""
        self.wait = Histogram()
        """Time from the publish to the start of the first attempt."""
        self.latency = Histogram()
        """Time from the publish of a message until it was settled, for those that succeeded."""
        self.takeovers = Histogram()
        """Time from the claim of another instance's shard until its messages may start."""
        now = time.monotonic()
        self._rate = Rate(now)
        self._recent: deque[tuple[float, int, int]] = deque([(now, 0, 0)])
        """Over the last minute: a time, and how many attempts had ended and failed by then."""

    @property
    def duration(self) -> Histogram:
        """Time in the handler."""
        self.collect()
        return self._histogram

    def collect(self) -> None:
        """Count the durations that were noted since the last time; called about ten times a second."""
        durations, self.durations = self.durations, []
        self._histogram.count_seconds(durations)
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
        """Note the seconds of an attempt in its handler, and its span if it has one."""
        self.durations.append(seconds)
        if span is not None:
            self.spans += (span, seconds)

    def _keep_traced(self) -> None:
        spans, self.spans = self.spans, []
        now, found = time.time(), set[int]()
        for at in range(len(spans) - 2, -1, -2):  # the newest first: of each bucket only its ids are read
            bucket = index(min(int(spans[at + 1] * 1e6), LONGEST))
            if bucket not in found and spans[at].sampled:
                found.add(bucket)
                self.traced[bucket] = spans[at].trace_id, spans[at + 1], now

    def _ahead(self) -> float:
        """The server's Unix time minus the monotonic time here, in seconds."""
        return self._server_now() - time.monotonic()

    def waited(self, stored_ns: int, started: float) -> None:
        """Count the wait of a first attempt that does not end the usual way."""
        self.wait.count(int((started + self._ahead() - stored_ns / 1e9) * 1e6))

    def succeeded(self, stored_ns: int) -> None:
        """Count the latency of a message that did not succeed the usual way."""
        self.latency.count(int((self._server_now() - stored_ns / 1e9) * 1e6))

    @property
    def handled(self) -> int:
        """Messages that ended here, acknowledged or dead-lettered."""
        return self.acked + sum(self.dead.values())

    def mark(self, now: float) -> None:
        """Remember the present counts; called about once a second."""
        self._rate.mark(now, self.handled)
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
        """Begin the last minute anew."""
        self._recent = deque([(now, self.attempts, self.failed)])

    def rate(self, now: float) -> float:
        """Messages a second over the window."""
        return self._rate.read(now, self.handled)

    def snapshot(self, now: float) -> dict[str, Any]:
        """The counters as plain values; durations as histogram buckets, which can be merged."""
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
