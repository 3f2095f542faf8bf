"""How an ordered batch is settled: no message is done before an earlier one of its key, however the call has ended."""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence

from msgspec import Struct


class Division(Struct, frozen=True):
    """The places of a batch's messages, each in one of the lists, ascending."""

    before: list[int]
    """Messages that are not marked, and have no marked message of their key before them."""
    first: list[int]
    """The first marked message of each key."""
    behind: list[int]
    """Messages behind the first marked one of their key."""


def divide(keys: Sequence[Hashable], marked: Container[int]) -> Division:
    """Divide a batch by its `marked` places, whose messages have failed or run alone; `keys` has the key of each place."""
    division, stopped = Division([], [], []), set[Hashable]()
    for place, key in enumerate(keys):
        if key in stopped:
            division.behind.append(place)
        elif place in marked:
            stopped.add(key)
            division.first.append(place)
        else:
            division.before.append(place)
    return division


class Narrowing(Struct, frozen=True):
    """Finds the message that makes a batch fail: the next batches are smaller, until it is alone."""

    size: int
    """Most messages of the next batch."""
    until: int
    """The failing message's sequence is at most this; 0 once it was alone: from then on batches grow again."""


def after_failure(sequences: Sequence[int]) -> Narrowing:
    """A batch of these sequences, ascending, has failed as a whole."""
    if len(sequences) == 1:
        return Narrowing(1, 0)
    return Narrowing(len(sequences) // 2, sequences[-1])


def after_success(narrowing: Narrowing, sequences: Sequence[int], most: int) -> Narrowing | None:
    """A batch of these sequences, ascending, has succeeded; None once batches may have `most` messages again."""
    if not narrowing.until:
        return Narrowing(narrowing.size * 2, 0) if narrowing.size * 2 < most else None
    if sequences[-1] >= narrowing.until:
        return None  # the cause of the failure has passed
    return Narrowing(max(1, narrowing.size // 2), narrowing.until)
