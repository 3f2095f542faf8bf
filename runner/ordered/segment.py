"""One record of settlements, before it is written and after (`settlement_log.py`)."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from runner.core.history import Identity


class Settled(Protocol):
    """What one shard has settled, under its name."""

    name: str
    wanted: bool
    """Whether there is more to be recorded."""
    newest: Callable[[], Identity]
    """A message of the stream that is no older than any that was settled."""

    def doubtful(self, now: float) -> bool:
        """Whether acks of what it has put on record may have gone nowhere."""

    def take(self, most: int) -> list[int]:
        """The settlements to be recorded now, the oldest first."""

    def recorded(self, taken: list[int]) -> None:
        """What was taken is on record."""

    def requeue(self, taken: list[int]) -> None:
        """What was taken may not be on record: it is wanted again."""


Part: TypeAlias = tuple[Settled, str, list[int]]
"""What one record says of one shard, and under which name."""
CompactPart: TypeAlias = "tuple[Settled, str, array[int]]"
"""The same in a fifth of the memory."""


class Segment(msgspec.Struct, frozen=True):
    """A record that was confirmed."""

    sent: float
    sequence: int
    """Its own, in the bucket."""
    slot: int
    parts: list[CompactPart]
    count: int
    """How many settlements it tells."""


class Settlements(msgspec.Struct):
    """What goes into one record."""

    fresh: list[Part] = []
    again: list[Part] = []
    """Was on record before."""
    done: int = 0
    """So many records of those in doubt are not needed any more once this one is confirmed."""
    sent: float = 0.0
    era: int = 0
    """Of the stream's history."""
    before: Segment | None = None
    """The record whose place it takes: it says what that said, too."""

    @property
    def count(self) -> int:
        """How many settlements it tells for the first time."""
        return sum(len(sequences) for _, _, sequences in self.fresh)

    def written(self, sequence: int, slot: int) -> Segment:
        """Once it was confirmed, with its sequence in the bucket."""
        parts = list(self.before.parts) if self.before is not None else []
        for shard, name, each in (*self.again, *self.fresh):
            settled = array("Q", each)
            if parts and parts[-1][0] is shard and parts[-1][1] == name:
                settled = parts.pop()[2] + settled
            parts.append((shard, name, settled))
        return Segment(self.sent, sequence, slot, parts, sum(len(each) for _, _, each in parts))
