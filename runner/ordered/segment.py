"""One record of settlements, before it is written and after (`settlement_log.py`)."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from runner.core.history import Identity


class SettledShard(Protocol):
    """What one shard has settled, as the log sees it."""

    name: str
    wanted: bool
    """Whether more settlements are to be recorded."""
    newest: Callable[[], Identity]
    """A message of the stream that is no older than any that was settled."""

    def doubtful(self, now: float) -> bool:
        """Whether acks of its recorded settlements may have been lost."""

    def take(self, most: int) -> list[int]:
        """The settlements to be recorded now, the oldest first."""

    def recorded(self, taken: list[int]) -> None:
        """The taken settlements are on record."""

    def requeue(self, taken: list[int]) -> None:
        """The taken settlements may not be on record: they are to be recorded again."""


RecordPart: TypeAlias = tuple[SettledShard, str, list[int]]
"""The part of one record for one shard: the shard, the name that it is recorded under, and the sequences."""
CompactPart: TypeAlias = "tuple[SettledShard, str, array[int]]"
"""The same in a fifth of the memory."""


class Segment(msgspec.Struct, frozen=True):
    """A record that was confirmed."""

    sent: float
    sequence: int
    """The record's own sequence, in the bucket."""
    slot: int
    parts: list[CompactPart]
    count: int
    """How many settlements the record holds."""


class Settlements(msgspec.Struct):
    """The settlements that go into one record."""

    fresh: list[RecordPart] = []
    again: list[RecordPart] = []
    """Settlements that were on record before."""
    done: int = 0
    """How many of the log's leaving records are no longer needed once this one is confirmed."""
    sent: float = 0.0
    era: int = 0
    """The era of the stream's history."""
    before: Segment | None = None
    """The record that this one replaces, and whose content it repeats."""

    @property
    def count(self) -> int:
        """How many settlements are recorded for the first time."""
        return sum(len(sequences) for _, _, sequences in self.fresh)

    def written(self, sequence: int, slot: int) -> Segment:
        """The record once it is confirmed, with its sequence in the bucket."""
        parts = list(self.before.parts) if self.before is not None else []
        for shard, name, each in (*self.again, *self.fresh):
            settled = array("Q", each)
            if parts and parts[-1][0] is shard and parts[-1][1] == name:
                settled = parts.pop()[2] + settled
            parts.append((shard, name, settled))
        return Segment(self.sent, sequence, slot, parts, sum(len(each) for _, _, each in parts))
