"""Messages of one key that run together: which of them are uncommitted."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


class BatchMembers(dict[Hashable, set[int]]):
    """The uncommitted messages of a batch by their key; a key whose messages run one by one is not in it."""

    __slots__ = ()

    @property
    def joined(self) -> int:
        """How many messages run together with one that holds a lane; the holders are not counted."""
        return sum(len(batch) - 1 for batch in self.values())

    def join(self, key: Hashable, holder: int, others: Iterable[int]) -> None:
        """Add messages that run together with `holder`, which holds the lane."""
        self.setdefault(key, {holder}).update(others)

    def leave(self, key: Hashable, sequence: int) -> bool:
        """Take a message out of its batch; returns whether others are left in the batch."""
        batch = self.get(key)
        if batch is None:
            return False
        batch.discard(sequence)
        if not batch:
            del self[key]
        return bool(batch)

    def part(self, key: Hashable, sequences: Iterable[int]) -> bool:
        """Take messages out of their batch; returns whether others are left in the batch."""
        batch = self.get(key, set())
        batch.difference_update(sequences)
        if not batch:
            self.pop(key, None)
        return bool(batch)
