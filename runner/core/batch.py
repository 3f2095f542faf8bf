"""How a handler's outputs are published: by destination stream, those of one stream in atomic batches.

Outputs are numbered from 0 within their stream, in the order they were made. The same input gives the same numbers, and the
ids of the outputs derive from them. One output is a plain publish; more are an atomic batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from msgspec import Struct

LARGEST = 1_000
"""Messages of one atomic batch: the server's limit."""

T = TypeVar("T")


class Batch(Struct, Generic[T], frozen=True):
    """Outputs into one stream that are stored together or not at all."""

    stream: str
    first: int
    """The number of the first output within the stream."""
    outputs: tuple[T, ...]

    @property
    def atomic(self) -> bool:
        """Whether the outputs need an atomic batch; a single output is a plain publish."""
        return len(self.outputs) > 1

    def numbered(self) -> Iterable[tuple[int, T]]:
        """Pair each output with its number within the stream."""
        return enumerate(self.outputs, self.first)


def plan(outputs: Iterable[tuple[str, T]]) -> list[Batch[T]]:
    """Sort (stream, output) pairs into batches of at most LARGEST, streams in the order they first appear."""
    streams: dict[str, list[T]] = {}
    for stream, output in outputs:
        streams.setdefault(stream, []).append(output)
    return [
        Batch(stream, first, tuple(members[first : first + LARGEST]))
        for stream, members in streams.items()
        for first in range(0, len(members), LARGEST)
    ]
