"""What time it is at the server: messages are stored and schedules run by its clock, and ours may be wrong."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from runner.core import serverclock
from runner.core.serverclock import Reading


class ServerClock:
    """Reads the time that answers of JetStream's own API carry; without one, our own clock has to do."""

    def __init__(self) -> None:
        self._reading: Reading | None = None

    def hear(self, answer: dict[str, Any], asked: float) -> None:
        """An answer has arrived to what was asked at that monotonic time; many hold the server's time, as `ts`."""
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
        """Seconds since the answer that we go by; a large number before any."""
        return time.monotonic() - self._reading.taken if self._reading is not None else 1e9

    def now(self) -> float:
        """Unix time at the server, in seconds."""
        return time.time() if self._reading is None else time.monotonic() + self._reading.ahead
