"""How many messages beyond its concurrency a pull fetches ahead, so that a fast function does not wait for the server.

Rule 1: at most what was completed in 20 ms, by the last time that this was measured: a message waits about that long here.
Rule 2: at most `EACH` messages for each that runs, and no more bytes than the pull may ask for anyway: each gets a smaller
        part of them. What a killed process had here comes again as if it had been started.
Rule 3: none while messages do not fit into such a part.
"""

from __future__ import annotations

from runner.core import budget

SECONDS = 0.02
EACH = 16
MOST = 4_096
MOST_BYTES = 8 << 20
PAUSE_SECONDS = 1.0
"""How long nothing is fetched ahead after a message was larger than those before."""


class Ahead:
    """Of one pull; times are readings of one clock, in seconds."""

    __slots__ = ("_began", "_completed", "_measured", "_most", "_paused", "_size", "held", "messages")

    def __init__(self, most: int = 0) -> None:
        """At most so many messages."""
        self.messages = 0
        """How many there may be now."""
        self.held = 0
        """How many were here or on their way when the last request was written."""
        self._most = most
        self._measured = 0
        self._completed = 0
        self._began = 0.0
        self._size = 0
        self._paused = False

    def learn(self, length: int) -> None:
        """The newest message has so many bytes."""
        self._size = budget.learned(self._size, length + budget.OVERHEAD)

    def look(self, now: float, held: int, part: int, limit: int) -> int:
        """How many there may be, with so many here and on their way; `part`: bytes for each of the `limit` that run at once."""
        if not self._most:
            return 0
        if held < self.held:
            self._completed += self.held - held
        self.held = held
        if self._paused:
            self._paused = False
            self._began = now + PAUSE_SECONDS
        seconds = now - self._began
        if seconds >= SECONDS:
            self._measured = int(self._completed * SECONDS / seconds)
            self._completed = 0
            self._began = now
        fitting = min(part * limit, MOST_BYTES) // (2 * self._size) - limit if self._size else 0
        self.messages = max(0, min(self._measured, self._most, EACH * limit, fitting))
        return self.messages

    def part(self, part: int, limit: int) -> int:
        """Bytes for each message, where the `limit` that run at once have `part` each."""
        return part * limit // (limit + self.messages) if self.messages else part

    def forget(self) -> None:
        """What is on its way is not known any more."""
        self.held = self._completed = self._measured = 0

    def pause(self) -> None:
        """A message was larger than what was left of a request."""
        self.forget()
        self.messages = 0
        self._paused = True
