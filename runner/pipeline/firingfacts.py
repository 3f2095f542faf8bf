"""The span attributes of an attempt that runs for a firing."""

from __future__ import annotations

from datetime import UTC

from runner.core import firing, header
from runner.core.cron import Schedule
from runner.telemetry.source import Attributes


def about_firing(schedule: Schedule, block: bytes | None, stored_ns: int) -> Attributes:
    """The attributes of a firing: its function's schedule, and when it was due."""
    due = firing.due(schedule, header.parse(block or b""), stored_ns)
    return {
        "faas.trigger": "timer",
        "faas.cron": schedule.text,
        "faas.time": due.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
