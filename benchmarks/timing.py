"""Collects latencies inside a handler and says their percentiles."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Percentiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Milliseconds from the send to the handler's first line."""

    p50: float
    p99: float
    max: float


class Latencies:
    """`record` is called once for each message; `done` is called with the last one."""

    def __init__(self, total: int, done: Callable[[], None]) -> None:
        self._total = total
        self._done = done
        self._nanoseconds: list[int] = []

    def record(self, nanoseconds: int) -> None:
        self._nanoseconds.append(nanoseconds)
        if len(self._nanoseconds) == self._total:
            self._done()

    def report(self) -> None:
        """Print the percentiles as the last line of this process."""
        print(msgspec.json.encode(self.percentiles()).decode(), flush=True)

    def percentiles(self) -> Percentiles:
        ranked = sorted(self._nanoseconds)

        def at(part: float) -> float:
            return ranked[min(len(ranked) - 1, int(part * len(ranked)))] / 1e6

        return Percentiles(at(0.5), at(0.99), ranked[-1] / 1e6)
