"""What several instances have measured of one function, as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.core.histogram import Histogram


def measured(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several instances' numbers as one."""
    durations = Histogram()
    for part in parts:
        try:
            durations.merge(Histogram.restore(part["duration"], part.get("extremes")))
        except ValueError:
            continue  # an instance of another version
    acked = sum(part["acked"] for part in parts)
    failed = sum(part["failed"] for part in parts)
    return {
        "in_flight": sum(part["in_flight"] for part in parts),
        "handled": sum(part["handled"] for part in parts),
        "acked": acked,
        "failures": failed,
        "retried": sum(part["retried"] for part in parts),
        "rate": round(sum(part["rate"] for part in parts), 3),
        "p50": durations.percentile(50),
        "p99": durations.percentile(99),
        "availability": round(acked / (acked + failed), 6) if acked + failed else None,
    }
