"""The metrics that there are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prometheus_client.core import Metric

from runner.gateway.httpcounts import HttpCounts
from runner.process.health import Health


def families() -> list[Metric]:
    """Every metric that a process can tell, whatever runs in it."""
    web: Any = SimpleNamespace(counts=HttpCounts())
    return Health([], lambda: "", web=web).families()


def names() -> dict[str, str]:
    """The kind of each metric, by its name on `/metrics`."""
    return {f"{each.name}_total" if each.type == "counter" else each.name: each.type for each in families()}


def series() -> set[str]:
    """The names that a query may ask for."""
    suffixes = ("_bucket", "_count", "_sum")
    return {
        name if kind != "histogram" else f"{name}{suffix}"
        for name, kind in names().items()
        for suffix in suffixes
    }
