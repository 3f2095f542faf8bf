"""What a function has answered in this process."""

from __future__ import annotations

from collections import Counter
from operator import sub
from typing import Any

from runner.core.answered import Answered
from runner.core.service import NotStarted
from runner.pipeline.stats import MOST_READ, Stats


class Counts(Stats):
    """Counters since the start. `acked` were answered with a result; `failed` ran, or could not be decoded, and were answered with an error."""

    __slots__ = ("codes", "last_error", "not_started")

    def __init__(self) -> None:
        super().__init__()
        self.codes: Counter[int] = Counter()
        """Errors, by their code, of requests whose handler has begun."""
        self.not_started: Counter[NotStarted] = Counter()
        """Requests that were refused before their handler began."""
        self.last_error = ""
        """`<code>: <text>` of the last error."""

    @property
    def handled(self) -> int:
        """Requests that were answered after their handler had begun."""
        return self.acked + self.failed

    def collect(self) -> None:
        """Count what was noted since the last time. Here `ended` has when each request came, when its handler began, and when it ended."""
        ended, self.ended = self.ended, []
        arrived, started, done = ended[::3], ended[1::3], ended[2::3]
        self.durations.extend(map(sub, done, started))
        step = len(arrived) // MOST_READ | 1
        for at in range(0, len(arrived), step):
            times = min(step, len(arrived) - at)
            self.wait.count(int((started[at] - arrived[at]) * 1e6), times)
            self.latency.count(int((done[at] - arrived[at]) * 1e6), times)
        super().collect()

    def error(self, code: int, text: str, waited: float) -> None:
        """Count a request that was answered with an error, and whose handler began so many seconds after it had come."""
        self.failed += 1
        self.wait.count(int(waited * 1e6))
        self.codes[code] += 1
        self.last_error = f"{code}: {text}"

    @property
    def faulty(self) -> int:
        """Those answered with an error that was no fault of the asker's."""
        return sum(number for code, number in self.codes.items() if Answered(code).faulty)

    @property
    def overloaded(self) -> int:
        """Requests that found no place to wait."""
        return self.not_started["overloaded"]

    def told(self) -> dict[str, Any]:
        """As ADR-32 of NATS has them; times are nanoseconds in the handler."""
        total = int(self.duration.total_us) * 1_000
        number = self.handled
        return {
            "num_requests": number,
            "num_errors": self.failed,
            "last_error": self.last_error,
            "processing_time": total,
            "average_processing_time": total // number if number else 0,
        }
