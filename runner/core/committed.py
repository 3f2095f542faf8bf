"""What one shard has committed lately: their stream sequences in an array. A set of them is made only when one is looked up."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

_LIMIT = 1 << 64
"""Above every stream sequence; a sum of distances in a record may exceed it."""


class Committed:
    """At least the latest `remember` sequences, and what was known before them until as many more have come."""

    __slots__ = ("_indexed", "_known", "_older", "_remember", "_sequences")

    def __init__(self, remember: int) -> None:
        self._remember = remember
        self.clear()

    def clear(self) -> None:
        """Forget them all."""
        self._sequences = array("Q")
        self._older = 0  # so many of them go once `remember` more have come
        self._known: set[int] = set()
        self._indexed = 0  # so many of them are in `_known`

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._sequences)

    def know(self, sequences: Iterable[int]) -> list[int]:
        """Take what others have committed; those of them that a stream can have."""
        known = [each for each in sequences if each < _LIMIT]
        self._sequences.extend(known)
        return known

    def add(self, sequences: Iterable[int]) -> None:
        """Take what was committed just now."""
        self._sequences.extend(sequences)
        if len(self._sequences) - self._older >= self._remember:
            del self._sequences[: self._older]
            self._older = len(self._sequences)
            self._known, self._indexed = set(), 0

    def all(self) -> set[int]:
        """All of them; the set stays this object's."""
        if self._indexed < len(self._sequences):
            self._known.update(self._sequences[self._indexed :])
            self._indexed = len(self._sequences)
        return self._known
