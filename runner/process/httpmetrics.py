"""Metrics of the HTTP edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from runner.process.metrictext import family, histogram

if TYPE_CHECKING:
    from runner.gateway.httpcounts import HttpCounts


def families(counts: HttpCounts) -> list[Metric]:
    """All metrics of the HTTP edge."""
    return [
        family(
            "jetrunner_http_requests_total",
            "counter",
            "HTTP requests answered, by route and class of status; route none: no route took it, refused: it was no request.",
            [
                ({"route": route, "code": f"{digit}xx"}, number)
                for (route, digit), number in sorted(counts.requests.items())
            ],
        ),
        family(
            "jetrunner_http_in_flight",
            "gauge",
            "HTTP requests that are not answered yet.",
            [({}, counts.in_flight)],
        ),
        histogram(
            "jetrunner_http_duration_seconds",
            "Time from the head of an HTTP request to its answer.",
            [({"route": route}, duration) for route, duration in sorted(counts.durations.items())],
        ),
    ]
