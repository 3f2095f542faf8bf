"""Counts of the requests that a function has answered in this process."""

from __future__ import annotations

import time
from collections import Counter
from itertools import chain
from operator import sub
from typing import Any

from runner.core.answered import Answered
from runner.core.histogram import Histogram
from runner.core.rate import Rate
from runner.core.service import NotStarted
from runner.pipeline.stats import MOST_READ


class Counts:
    """Counters since the start of the process; `rate` is that of the last 10 s.

    `acked` requests were answered with a result. `failed` requests were answered with an error, after they ran or could not be
    decoded.
    """

    def __init__(self) -> None:
        self.acked = self.failed = 0
        self.durations: list[float] = []
        """Durations of handlers that did not succeed, in seconds, not yet in the histogram."""
        self.ended: list[float] = []
        """Three times of each success, not yet counted: its arrival, and the start and the end of its handler."""
        self._histogram, self._rate = Histogram(), Rate(time.monotonic())
        self.wait = Histogram()
        """Time from arrival to the start of the handler."""
        self.latency = Histogram()
        """Time from arrival to the end of the handler, of requests that succeeded."""
        self.codes: Counter[int] = Counter()
        """Error answers by code, of requests whose handler has begun."""
        self.not_started: Counter[NotStarted] = Counter()
        """Requests that were refused before their handler began."""
        self.last_error = ""
        """`<code>: <text>` of the last error."""

    @property
    def handled(self) -> int:
        """Requests that were answered after their handler had begun."""
        return self.acked + self.failed

    @property
    def duration(self) -> Histogram:
        """Time in the handler."""
        self.collect()
        return self._histogram

    def mark(self, now: float) -> None:
        """Remember the present count, for the rate; called about once a second."""
        self._rate.mark(now, self.handled)

    def rate(self, now: float) -> float:
        """Requests a second over the last 10 s."""
        return self._rate.read(now, self.handled)

    def collect(self) -> None:
        """Put the times noted since the last call into the histograms; called about ten times a second."""
        durations, self.durations = self.durations, []
        ended, self.ended = self.ended, []
        arrived, started, done = ended[::3], ended[1::3], ended[2::3]
        self._histogram.count_seconds(chain(durations, map(sub, done, started)))
        step = len(arrived) // MOST_READ | 1
        for at in range(0, len(arrived), step):
            times = min(step, len(arrived) - at)
            self.wait.count(int((started[at] - arrived[at]) * 1e6), times)
            self.latency.count(int((done[at] - arrived[at]) * 1e6), times)

    def error(self, code: int, text: str, waited: float) -> None:
        """Count a request that was answered with an error; its handler began `waited` seconds after its arrival."""
        self.failed += 1
        self.wait.count(int(waited * 1e6))
        self.codes[code] += 1
        self.last_error = f"{code}: {text}"

    @property
    def faulty(self) -> int:
        """Requests that were answered with an error that was not the asker's fault."""
        return sum(number for code, number in self.codes.items() if Answered(code).faulty)

    @property
    def overloaded(self) -> int:
        """Requests that found no place to wait."""
        return self.not_started["overloaded"]

    def told(self) -> dict[str, Any]:
        """The counts as ADR-32 of NATS has them; times are nanoseconds in the handler."""
        total = int(self.duration.total_us) * 1_000
        number = self.handled
        return {
            "num_requests": number,
            "num_errors": self.failed,
            "last_error": self.last_error,
            "processing_time": total,
            "average_processing_time": total // number if number else 0,
        }
