"""What one durable of a function reads, and what becomes of it when the function's subject is another one by now.

The filter of a durable is one for all instances, and a message that comes while the filter does not match it is passed over
for good. So it is not edited under an instance that relies on it.

Rule 1: what the subject has gained is read by a durable beside it, which leaves out what the first one reads.
Rule 2: a durable is narrowed once no instance needs what is left out by then; a durable beside it remembers where that was.
Rule 3: two subjects of which neither holds the other are two functions: only one of them may run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from runner.core.subject import covers, overlaps


class Place(Struct, frozen=True):
    """One durable, and what it reads, as published."""

    durable: str
    subject: str

    def needed(self, wanted: str) -> bool:
        """Whether a function that reads `wanted` may read here: nothing comes that is not its own."""
        return covers(wanted, self.subject)


class Read(Struct, frozen=True):
    """The durable reads what it should."""


class Widen(Struct, frozen=True):
    """The subject holds more than the durable reads: the rest is read beside it."""


class Narrow(Struct, frozen=True):
    """The durable reads more than any instance needs."""


class Replace(Struct, frozen=True):
    """The durable reads something else, and no instance needs it."""


class Wait(Struct, frozen=True):
    """An instance needs the durable as it is, and goes before this one."""

    instance: str
    subject: str


class Refuse(Struct, frozen=True):
    """An instance reads another subject by the same name."""

    instance: str
    subject: str


Step: TypeAlias = Read | Widen | Narrow | Replace | Wait | Refuse


def decide(wanted: str, main: str, others: Mapping[str, str], *, apart: bool = False) -> Step:
    """What is to be done where a function reads `wanted` and its durable `main`.

    `others` are the subjects of the other instances that live, by their names. `apart` says that the stream lets no two durables
    read the same message (a work queue), so that there can be none beside it.
    """
    if wanted == main:
        return Read()
    for name, theirs in others.items():
        if not covers(wanted, theirs) and not covers(theirs, wanted):
            return Refuse(name, theirs)
    different = {name: theirs for name, theirs in others.items() if theirs != wanted}
    if covers(wanted, main) and not apart:
        return Widen()
    for name, theirs in different.items():
        if apart or not covers(wanted, theirs):
            return Wait(name, theirs)
    return Narrow() if covers(main, wanted) and not apart else Replace()


def beside(wanted: str, main: Place, known: Sequence[Place]) -> tuple[tuple[Place, ...], Place | None]:
    """The durables beside `main` that a function of this subject reads, and the one that is lacking among them."""
    ours = tuple(each for each in known if each.needed(wanted))
    if any(each.subject == wanted for each in (main, *ours)):
        return ours, None
    return ours, Place("", wanted)


def excluded(place: Place, main: Place, ours: Sequence[Place]) -> tuple[str, ...]:
    """Subjects of what a durable beside `main` leaves to the others, so that exactly one of them reads a message.

    What `main` reads is its own; of two others the one goes first whose subject the other's holds, else whose name does.
    """
    first = [each for each in ours if each != place and _goes_first(each, place)]
    return tuple(each.subject for each in (main, *first) if overlaps(each.subject, place.subject))


def progress(wanted: str, known: Mapping[Place, int]) -> int | None:
    """Up to where durables have settled everything of a subject, by how far each has; None where none has read all of it."""
    holders = [each for each in known if covers(each.subject, wanted)]
    if not holders:
        return None
    holder = next(
        each for each in holders if all(not _goes_first(other, each) for other in holders if other != each)
    )
    parts = [each for each in known if _goes_first(each, holder) and overlaps(each.subject, wanted)]
    return min(known[each] for each in (holder, *parts))


def _goes_first(one: Place, other: Place) -> bool:
    if one.subject != other.subject:
        if covers(other.subject, one.subject):
            return True
        if covers(one.subject, other.subject):
            return False
    return one.durable < other.durable


def goes_on(wanted: str, before: str) -> bool:
    """Whether a durable that is made again for another subject goes on where it was: some of its messages have run."""
    return overlaps(wanted, before)
