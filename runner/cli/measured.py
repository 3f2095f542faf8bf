"""Joins what several instances have measured of one function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.core.histogram import Histogram


def measured(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of several instances together."""
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
        **slots(parts),
        "availability": round(acked / (acked + failed), 6) if acked + failed else None,
    }


def slots(parts: Sequence[dict[str, Any]]) -> dict[str, int]:
    """The number of slots in several instances, and of free ones; each request in work takes a slot."""
    total = sum(part.get("slots", 0) for part in parts)
    busy = sum(part.get("busy", 0 if "durable" in part else part["in_flight"]) for part in parts)
    return {"slots": total, "slots_free": max(0, total - busy)}


def takeovers(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many shards of other instances were taken over, and how long it took until their messages could start."""
    durations = Histogram()
    for part in parts:
        try:
            durations.merge(Histogram.restore(part.get("takeovers") or [0]))
        except ValueError:
            continue  # an instance of another version
    return {"number": durations.number, "p50": durations.percentile(50), "p99": durations.percentile(99)}
