"""How many messages beyond its concurrency a pull fetches ahead, so that a fast function does not wait for the server.

Rule 1: at most as many as were completed in 20 ms, by the latest measurement, so that a message waits about 20 ms here.
Rule 2: at most `EACH` messages for each running message. The bytes that the pull may ask for stay the same, so each message gets a
        smaller part of them. If the process is killed, the messages fetched ahead come again as if they had been started.
Rule 3: none while messages are larger than such a part.
"""

from __future__ import annotations

from runner.core import budget

SECONDS = 0.02
EACH = 16
MOST = 4_096
MOST_BYTES = 8 << 20
PAUSE_SECONDS = 1.0
"""How long nothing is fetched ahead after a message did not fit into the rest of a request."""


class Ahead:
    """How many messages one pull fetches ahead; times are readings of one clock, in seconds."""

    __slots__ = ("_began", "_completed", "_measured", "_most", "_paused", "_size", "held", "messages")

    def __init__(self, most: int = 0) -> None:
        """`most`: how many messages may be fetched ahead at most; 0: none."""
        self.messages = 0
        """How many messages may be fetched ahead now."""
        self.held = 0
        """How many messages were here or on their way at the last look."""
        self._most = most
        self._measured = 0
        self._completed = 0
        self._began = 0.0
        self._size = 0
        self._paused = False

    def learn(self, length: int) -> None:
        """Take in the size of the newest message, in bytes."""
        self._size = budget.learned(self._size, length + budget.OVERHEAD)

    def look(self, now: float, held: int, part: int, limit: int) -> int:
        """Compute how many messages to fetch ahead; `held` are here or on their way, `part` is the bytes of each of `limit` slots."""
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
        """Bytes for each message, ahead or not; `part` is the bytes of each of the `limit` messages that run at once."""
        return part * limit // (limit + self.messages) if self.messages else part

    def forget(self) -> None:
        """Forget the messages on their way, and the measured rate."""
        self.held = self._completed = self._measured = 0

    def pause(self) -> None:
        """Fetch nothing ahead for a while: a message was larger than the bytes left of a request."""
        self.forget()
        self.messages = 0
        self._paused = True
