"""The record of a failed message: how often it has failed, and when it may run again.

Rule 1: a record belongs to one message: sequence and time of storage have to match. Sequences begin again when a stream is made
        again, or goes back to an older copy.
Rule 2: the next owner waits for the rest of the delay, but never longer than the delay itself, because clocks differ.
"""

from __future__ import annotations

from msgspec import Struct

from runner.core import checked
from runner.core.checked import Count, Seconds, Unfit

MOST = 10**9 - 1
"""The highest count in a record of an earlier release, which is a bare number."""


class FailureRecord(Struct, frozen=True, omit_defaults=True):
    """The failures of one message."""

    count: Count
    due: Seconds = 0.0
    """Unix time of the next attempt."""
    delay: Seconds = 0.0
    """Seconds that the next attempt was put off by."""
    message: Count = 0
    """Identifies the message: when it was stored, in nanoseconds of Unix time. For a message on its way back: its place. 0: not told."""

    def is_about(self, message: int) -> bool:
        """Whether the record is about this message."""
        return not self.message or self.message == message

    def is_counted_in(self, other: FailureRecord | None) -> bool:
        """Whether another record includes this one: it is the same, or counts more failures of the same message."""
        return other is not None and (
            other == self or (other.count > self.count and other.is_about(self.message))
        )

    def rest(self, now: float) -> float:
        """Seconds until the next attempt; the clock of `now` may differ from the one that `due` was read from."""
        return min(max(0.0, self.due - now), self.delay)


def once_more(before: FailureRecord | None, delay: float, now: float, message: int) -> FailureRecord:
    """Count one more failure; the message runs again after `delay` seconds."""
    return FailureRecord(before.count + 1 if before is not None else 1, now + delay, delay, message)


_decode = checked.json(FailureRecord)


def read(value: bytes) -> FailureRecord | None:
    """Read a record from the bucket; None for an empty one, and for bytes that are no record."""
    if (count := checked.number(value, MOST)) is not None:  # as earlier releases wrote it
        return FailureRecord(count) if count else None
    try:
        found = _decode(value)
    except Unfit:
        return None
    return found if found.count else None
