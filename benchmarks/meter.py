"""Counts handled messages from inside a handler, as cheaply as Python can, and says what they cost.

Rule 1: the clock runs from the end of the warm-up to the last message, in every contender the same way.
Rule 2: CPU is user and system time of the whole process, every thread of it, between those two points.
"""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

WARM = 0.1
"""Part of the messages that is handled before the clock starts."""


class Measured(msgspec.Struct, frozen=True):
    """What a contender's process says of itself on its last line."""

    rate: float
    """Messages a second."""
    cpu: float
    """Microseconds of CPU a message."""
    memory: float = 0.0
    """Most megabytes that the process had in memory until the last message."""
    spans: int | None = None
    """Spans that reached the sink, where traces go to one."""
    p50: float | None = None
    p99: float | None = None
    """Milliseconds within which half of the requests, and 99 of 100, were answered, where that is measured."""
    messages: int | None = None
    """How many there were, where the time was given and not their number."""


class Meter:
    """`tick` is called once for each message; `done` is called with the last one."""

    def __init__(self, total: int, done: Callable[[], None]) -> None:
        self.measured: Measured | None = None
        # A generator's step over a range counts for a fifth of what a method with an attribute costs.
        self.tick: Callable[[], None] = self._steps(total, int(total * WARM), done).__next__

    def _steps(self, total: int, warm: int, done: Callable[[], None]) -> Iterator[None]:
        for _ in range(warm):
            yield
        began, cpu = time.perf_counter(), used()
        for _ in range(total - warm - 1):
            yield
        seconds, cpu = time.perf_counter() - began, used() - cpu
        self.measured = Measured((total - warm) / seconds, cpu / (total - warm) * 1e6, peak())
        done()
        while True:  # a message that comes twice; the arena finds that out
            yield

    def report(self, delays: Sequence[float] = ()) -> None:
        """Print what was measured as the last line of this process; `delays` are the seconds that each took, the shortest first."""
        assert self.measured is not None
        if delays:
            p50, p99 = (delays[len(delays) * part // 100] * 1000 for part in (50, 99))
            self.measured = msgspec.structs.replace(self.measured, p50=p50, p99=p99)
        print(msgspec.json.encode(self.measured).decode(), flush=True)


def used() -> float:
    """Seconds of CPU that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def used_by(pid: int) -> float:
    """Seconds of CPU that a process has used; 0.0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak() -> float:
    """Most megabytes that this process has had in memory; 0.0 where there is no /proc."""
    try:  # not ru_maxrss: that is the parent's, where it was larger
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
