"""Metrics of the HTTP edge."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.process.metrictext import family, histogram

if TYPE_CHECKING:
    from runner.gateway.counts import Counts

_QUOTED = re.compile(r'["\\\\\n]')


def lines(counts: Counts) -> list[str]:
    """All of them, in Prometheus' text format."""
    return [
        *family(
            "jetrunner_http_requests_total",
            "counter",
            "HTTP requests answered, by route and class of status; route none: no route took it, refused: it was no request.",
            [
                (f'route="{_label(route)}",code="{digit}xx"', number)
                for (route, digit), number in sorted(counts.requests.items())
            ],
        ),
        *family(
            "jetrunner_http_in_flight",
            "gauge",
            "HTTP requests that are not answered yet.",
            [("", counts.in_flight)],
        ),
        *histogram(
            "jetrunner_http_duration_seconds",
            "Time from the head of an HTTP request to its answer.",
            [(f'route="{_label(route)}"', duration) for route, duration in sorted(counts.durations.items())],
        ),
    ]


def _label(route: str) -> str:
    return _QUOTED.sub("_", route)
