"""A pace limits how many calls a second may go on."""

from __future__ import annotations

import re

import anyio

from runner.errors import UsageError

RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|m|h))?")


class Pace:
    """Lets its callers go on one by one; it must be made inside the event loop."""

    def __init__(self, interval: float) -> None:
        """`interval` is the time between two calls, in seconds; 0: as fast as possible."""
        self.interval = interval
        self._due = anyio.current_time()

    def begin(self) -> None:
        """Begin now: a delay until now is not made up for."""
        self._due = max(self._due, anyio.current_time())

    async def __call__(self) -> None:
        """Wait until the next call may go on; a delay of up to 1 s is made up for."""
        await anyio.sleep_until(self._due)
        self._due = max(self._due, anyio.current_time() - 1.0) + self.interval


def interval(rate: str | None) -> float:
    """Seconds between two calls, of a `--rate` as it was given; 0.0 without one. Raises UsageError."""
    if rate is None:
        return 0.0
    found = RATE.fullmatch(rate.strip())
    if found is None or float(found[1]) <= 0:
        raise UsageError(f"--rate {rate!r} is not a rate", hint="for example 50/s or 10/m")
    return {"s": 1.0, "m": 60.0, "h": 3600.0}[found[2] or "s"] / float(found[1])
