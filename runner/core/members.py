"""Messages of one key that run together: which of them are not committed yet."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


class Members(dict[Hashable, set[int]]):
    """By key, of a batch; a key whose messages run one by one is not in it."""

    __slots__ = ()

    @property
    def joined(self) -> int:
        """How many run together with one that holds a lane."""
        return sum(len(batch) - 1 for batch in self.values())

    def join(self, key: Hashable, holder: int, others: Iterable[int]) -> None:
        """These run together with the one that holds the lane."""
        self.setdefault(key, {holder}).update(others)

    def leave(self, key: Hashable, sequence: int) -> bool:
        """Whether others of its batch are left, now that this one has left it."""
        batch = self.get(key)
        if batch is None:
            return False
        batch.discard(sequence)
        if not batch:
            del self[key]
        return bool(batch)

    def part(self, key: Hashable, sequences: Iterable[int]) -> bool:
        """Whether others of the batch are left without these."""
        batch = self.get(key, set())
        batch.difference_update(sequences)
        if not batch:
            self.pop(key, None)
        return bool(batch)
