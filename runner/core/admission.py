"""Admission: which requests may wait, how long, and what becomes of the others before a handler has begun.

Rule 1: as many wait as were completed in the last 100 ms, so that a request waits about that long here; at least as many
        as run at once, at most `MOST`. Before anything was completed it is `FIRST`.
Rule 2: completions tell what a function can do only while requests wait for it. Of a time in which it was idle they are
        a lower bound, and what was measured is forgotten after `FORGET_SECONDS` without such a time.
Rule 3: a deadline is what is left to the asker when the request arrives, in milliseconds: no clock is shared. What is
        no number says nothing; what is negative has passed.
"""

from __future__ import annotations

import re

SECONDS = 0.1
FORGET_SECONDS = 10.0
MOST = 4_096
FIRST = 1_024

_DEADLINE = re.compile(rb"[ \t]*(-?)([0-9]{1,15})(?:\.[0-9]*)?[ \t]*")


class WaitingRoom:
    """Of one function; times are readings of one clock, in seconds."""

    __slots__ = ("_began", "_completed", "_concurrency", "_learned", "_measured", "idle", "places")

    def __init__(self, concurrency: int, now: float) -> None:
        self.places = min(MOST, max(FIRST, concurrency))
        """How many requests may wait."""
        self.idle = True
        """Whether nothing has waited at some moment since the last look."""
        self._concurrency = concurrency
        self._measured: int | None = None
        self._completed = 0
        self._began = self._learned = now

    def look(self, now: float, completed: int) -> None:
        """Measure again, where it is time; `completed` counts from the beginning."""
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
    """Read the seconds that are left to an asker, 0.0 where its deadline has passed; None where it says nothing."""
    found = _DEADLINE.fullmatch(text)
    if found is None:
        return None
    return 0.0 if found[1] else int(found[2]) / 1_000
