"""A pace: so many a second, never exceeded."""

from __future__ import annotations

import re

import anyio

from runner.errors import UsageError

RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|m|h))?")


class Pace:
    """Lets one through after the other; made inside the loop."""

    def __init__(self, interval: float) -> None:
        """`interval` is in seconds, 0 for as fast as it goes."""
        self.interval = interval
        self._due = anyio.current_time()

    def begin(self) -> None:
        """Nothing is made up for that went slower until now."""
        self._due = max(self._due, anyio.current_time())

    async def __call__(self) -> None:
        """Wait for the time of the next."""
        await anyio.sleep_until(self._due)
        self._due = max(self._due, anyio.current_time() - 1.0) + self.interval


def interval(rate: str | None) -> float:
    """Seconds between two, of a `--rate` as it was given."""
    if rate is None:
        return 0.0
    found = RATE.fullmatch(rate.strip())
    if found is None or float(found[1]) <= 0:
        raise UsageError(f"--rate {rate!r} is not a rate", hint="for example 50/s or 10/m")
    return {"s": 1.0, "m": 60.0, "h": 3600.0}[found[2] or "s"] / float(found[1])
