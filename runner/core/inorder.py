"""What becomes of an ordered batch: nothing of a key is done before what stands before it, however a call has ended."""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence

from msgspec import Struct


class Division(Struct, frozen=True):
    """The places of a batch's messages, each in one of the lists, ascending."""

    before: list[int]
    """No message of their keys that is marked stands before them, nor are they marked."""
    first: list[int]
    """The first of their keys that are marked."""
    behind: list[int]
    """They stand behind one of those."""


def divide(keys: Sequence[Hashable], marked: Container[int]) -> Division:
    """Divide a batch, of which the keys are given by place, by those that are marked: they have failed, or run alone."""
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
    """How a batch that has failed is searched for what fails: the next batches are smaller, until that is alone."""

    size: int
    """Most messages of the next batch."""
    until: int
    """What fails has a sequence up to this one; 0 once it was alone: batches grow again from there."""


def after_failure(sequences: Sequence[int]) -> Narrowing:
    """A batch of these, ascending, has failed as a whole."""
    if len(sequences) == 1:
        return Narrowing(1, 0)
    return Narrowing(len(sequences) // 2, sequences[-1])


def after_success(narrowing: Narrowing, sequences: Sequence[int], most: int) -> Narrowing | None:
    """A batch of these, ascending, has succeeded meanwhile; None once batches may be of `most` messages again."""
    if not narrowing.until:
        return Narrowing(narrowing.size * 2, 0) if narrowing.size * 2 < most else None
    if sequences[-1] >= narrowing.until:
        return None  # it failed for something that has passed
    return Narrowing(max(1, narrowing.size // 2), narrowing.until)
