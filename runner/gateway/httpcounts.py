"""Counts of what a gateway has answered, by route and class of status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from runner.core.histogram import Histogram

NO_ROUTE, REFUSED = "none", "refused"
"""Names used instead of a route: no route took the request; or the guard refused it before a route was looked for."""


class HttpCounts:
    """Counts of answered requests since the start of the process."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """Answered requests, by route and the first digit of the status."""
        self.in_flight = 0
        self._durations: dict[str, list[float]] = {}
        self._histograms: dict[str, Histogram] = {}

    def begin(self, route: str) -> None:
        """Count a route from the start, even if it gets no requests."""
        for digit in (2, 4, 5):
            self.requests.setdefault((route, digit), 0)
        self._durations.setdefault(route, [])

    def keep(self, routes: Iterable[str]) -> None:
        """Forget all other routes. The tables are replaced, not changed, since a thread may be reading them."""
        kept = {*routes, NO_ROUTE, REFUSED}
        self.requests = Counter({key: count for key, count in self.requests.items() if key[0] in kept})
        self._durations = {route: found for route, found in self._durations.items() if route in kept}
        self._histograms = {route: found for route, found in self._histograms.items() if route in kept}

    def note(self, route: str, status: int, seconds: float) -> None:
        """Count one request that has been answered."""
        self.requests[route, status // 100] += 1
        try:
            self._durations[route].append(seconds)
        except KeyError:
            self._durations[route] = [seconds]

    def refused(self, status: int) -> None:
        """Count a refusal by the guard."""
        self.requests[REFUSED, status // 100] += 1

    def collect(self) -> None:
        """Put the noted durations into the histograms; called about ten times a second."""
        for route, durations in self._durations.items():
            if not durations:
                continue
            histogram = self._histograms.setdefault(route, Histogram())
            for us, times in Counter(map(int, map((1e6).__mul__, durations))).items():
                histogram.count(us, times)
            durations.clear()

    @property
    def durations(self) -> dict[str, Histogram]:
        """Time until the answer, by route."""
        self.collect()
        return {route: self._histograms.get(route, Histogram()) for route in self._durations}
