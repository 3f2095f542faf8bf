"""What is on record of a message that has failed: how often, and when it may run again.

Rule 1: it is about one message. One that names another message's time says nothing about this one: sequences begin
        again when a stream is made again, or goes back to an older copy.
Rule 2: whoever owns the message next keeps what is left of its delay, and no more than was asked for: clocks differ.
"""

from __future__ import annotations

from msgspec import Struct

from runner.core import checked
from runner.core.checked import Count, Seconds, Unfit

MOST = 10**9 - 1
"""Of a count as earlier releases wrote it: a number, and nothing else."""


class Failed(Struct, frozen=True, omit_defaults=True):
    """The failures of one message."""

    count: Count
    due: Seconds = 0.0
    """Unix time of the next attempt."""
    delay: Seconds = 0.0
    """Seconds that the next attempt was put off by."""
    message: Count = 0
    """Which one: when it was stored, in nanoseconds of Unix time; of one on its way back, its place. 0: not told."""

    def is_about(self, message: int) -> bool:
        """Whether it tells of this message."""
        return not self.message or self.message == message

    def is_counted_in(self, other: Failed | None) -> bool:
        """Whether another record holds this one: the same, or one of more failures of the same message."""
        return other is not None and (
            other == self or (other.count > self.count and other.is_about(self.message))
        )

    def rest(self, now: float) -> float:
        """Seconds until the next attempt, by a clock that may not be the one that counted them first."""
        return min(max(0.0, self.due - now), self.delay)


def once_more(before: Failed | None, delay: float, now: float, message: int) -> Failed:
    """Count one failure more; the message runs again after `delay` seconds."""
    return Failed(before.count + 1 if before is not None else 1, now + delay, delay, message)


_decode = checked.json(Failed)


def read(value: bytes) -> Failed | None:
    """What the bucket holds; None for nothing, and for what is no record."""
    if (count := checked.number(value, MOST)) is not None:  # of an earlier release
        return Failed(count) if count else None
    try:
        found = _decode(value)
    except Unfit:
        return None
    return found if found.count else None
