"""The messages that one shard has committed lately: an array of their stream sequences, and a set only once one is looked up."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

_LIMIT = 1 << 64
"""Above every stream sequence; a sum of distances in a record may exceed it."""


class Committed:
    """Holds at least the latest `remember` sequences; older ones are dropped after another `remember` have come."""

    __slots__ = ("_indexed", "_known", "_older", "_remember", "_sequences")

    def __init__(self, remember: int) -> None:
        self._remember = remember
        self.clear()

    def clear(self) -> None:
        """Forget all sequences."""
        self._sequences = array("Q")
        self._older = 0  # so many sequences are dropped once `remember` more have come
        self._known: set[int] = set()
        self._indexed = 0  # so many sequences are in `_known`

    def __bool__(self) -> bool:
        """Whether there are any sequences."""
        return bool(self._sequences)

    def know(self, sequences: Iterable[int]) -> list[int]:
        """Add the sequences that others have committed; returns those that a stream can have."""
        known = [each for each in sequences if each < _LIMIT]
        self._sequences.extend(known)
        return known

    def add(self, sequences: Iterable[int]) -> None:
        """Add the sequences that were committed just now."""
        self._sequences.extend(sequences)
        if len(self._sequences) - self._older >= self._remember:
            del self._sequences[: self._older]
            self._older = len(self._sequences)
            self._known, self._indexed = set(), 0

    def all(self) -> set[int]:
        """Return all sequences; the set belongs to this object, so do not change it."""
        if self._indexed < len(self._sequences):
            self._known.update(self._sequences[self._indexed :])
            self._indexed = len(self._sequences)
        return self._known
