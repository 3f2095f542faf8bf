"""The time at the server: it stores messages and runs schedules by its own clock, and ours may be wrong."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from runner.core import serverclock
from runner.core.serverclock import ClockReading


class ServerClock:
    """Reads the time in answers of JetStream's own API; without such an answer our own clock is used."""

    def __init__(self) -> None:
        self._reading: ClockReading | None = None

    def hear(self, answer: dict[str, Any], asked: float) -> None:
        """Take in an answer to a question asked at that monotonic time; many answers have the server's time as `ts`."""
        told = answer.get("ts")
        if isinstance(told, str):
            try:
                there = datetime.fromisoformat(told)
            except ValueError:
                return
            if there.tzinfo is not None:
                found = serverclock.read(there.timestamp(), asked, time.monotonic())
                self._reading = serverclock.surer(self._reading, found)

    @property
    def age(self) -> float:
        """Seconds since the answer whose time is used; a large number before any."""
        return time.monotonic() - self._reading.taken if self._reading is not None else 1e9

    def now(self) -> float:
        """Unix time at the server, in seconds."""
        return time.time() if self._reading is None else time.monotonic() + self._reading.ahead
