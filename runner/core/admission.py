"""Admission: how many requests may wait for a slot, and how much time an asker has left.

Rule 1: as many requests may wait as were completed in the last 100 ms, so that a request waits about 100 ms. At least as many may
        wait as run at once, at most `MOST`. Before anything was completed, `FIRST` may wait.
Rule 2: the completions show the rate of a function only while requests wait for it. While the function is idle now and then, they
        are only a lower bound. A rate is forgotten after `FORGET_SECONDS` in which no requests waited.
Rule 3: a deadline is the time that the asker has left when the request arrives, in milliseconds, because the two share no clock.
        A value that is not a number is ignored; a negative one means that the deadline has passed.
"""

from __future__ import annotations

import re

SECONDS = 0.1
FORGET_SECONDS = 10.0
MOST = 4_096
FIRST = 1_024

_DEADLINE = re.compile(rb"[ \t]*(-?)([0-9]{1,15})(?:\.[0-9]*)?[ \t]*")


class WaitingRoom:
    """The places to wait of one function; times are readings of one clock, in seconds."""

    __slots__ = ("_began", "_completed", "_concurrency", "_learned", "_measured", "idle", "places")

    def __init__(self, concurrency: int, now: float) -> None:
        self.places = min(MOST, max(FIRST, concurrency))
        """How many requests may wait."""
        self.idle = True
        """Whether at some moment since the last look no request was waiting."""
        self._concurrency = concurrency
        self._measured: int | None = None
        self._completed = 0
        self._began = self._learned = now

    def look(self, now: float, completed: int) -> None:
        """Measure again once 100 ms have passed; `completed` is the number of requests since the start."""
        seconds = now - self._began
        if seconds < SECONDS:
            return
        found = int((completed - self._completed) * SECONDS / seconds)
        if not self.idle and completed:
            self._measured, self._learned = found, now
        elif now - self._learned > FORGET_SECONDS:
            self._measured = None
        self._began, self._completed, self.idle = now, completed, True
        known = FIRST if self._measured is None else self._measured
        self.places = min(MOST, max(self._concurrency, known, found))


def left(text: bytes) -> float | None:
    """Read how many seconds an asker has left: 0.0 after its deadline, None when the text is not a number."""
    found = _DEADLINE.fullmatch(text)
    if found is None:
        return None
    return 0.0 if found[1] else int(found[2]) / 1_000
