"""The durables of a function, and what becomes of them when the function's subject has changed.

All instances share a durable's filter, and a durable skips for good a message that comes while the filter does not match it. So the
filter is not changed while an instance relies on it.

Rule 1: messages that the subject has gained are read by a second durable, which leaves out what the first one reads.
Rule 2: the filter of a durable is narrowed only once no instance needs the rest. A second durable keeps the position of the rest.
Rule 3: if neither of two subjects contains the other, versions with these subjects count as two functions: only one of them may
        run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from runner.core.subject import covers, overlaps


class Durable(Struct, frozen=True):
    """One durable, and the subject that it reads, as published."""

    durable: str
    subject: str

    def needed(self, wanted: str) -> bool:
        """Whether a function that reads `wanted` may read this durable: all messages in it are the function's."""
        return covers(wanted, self.subject)


class ReadAsIs(Struct, frozen=True):
    """The durable reads what it should."""


class Widen(Struct, frozen=True):
    """The subject covers more than the durable reads: a durable beside it reads the rest."""


class Narrow(Struct, frozen=True):
    """The durable reads more than any instance needs."""


class Replace(Struct, frozen=True):
    """The durable reads another subject, and no instance needs it."""


class WaitForInstance(Struct, frozen=True):
    """Another instance needs the durable as it is, and takes precedence over this one."""

    instance: str
    subject: str


class Refuse(Struct, frozen=True):
    """Another instance has a function of the same name with another subject."""

    instance: str
    subject: str


ReadingStep: TypeAlias = ReadAsIs | Widen | Narrow | Replace | WaitForInstance | Refuse


def decide(wanted: str, main: str, others: Mapping[str, str], *, apart: bool = False) -> ReadingStep:
    """Decide what to do when a function reads `wanted` and its durable reads `main`.

    `others` are the subjects of the other living instances, by their names. `apart` says that the stream lets no two durables
    read the same message (a work queue), so that there can be no durable beside this one.
    """
    if wanted == main:
        return ReadAsIs()
    for name, theirs in others.items():
        if not covers(wanted, theirs) and not covers(theirs, wanted):
            return Refuse(name, theirs)
    different = {name: theirs for name, theirs in others.items() if theirs != wanted}
    if covers(wanted, main) and not apart:
        return Widen()
    for name, theirs in different.items():
        if apart or not covers(wanted, theirs):
            return WaitForInstance(name, theirs)
    return Narrow() if covers(main, wanted) and not apart else Replace()


def beside(
    wanted: str, main: Durable, known: Sequence[Durable]
) -> tuple[tuple[Durable, ...], Durable | None]:
    """The durables beside `main` that a function with this subject reads, and the one that has to be made; None: none."""
    ours = tuple(each for each in known if each.needed(wanted))
    if any(each.subject == wanted for each in (main, *ours)):
        return ours, None
    return ours, Durable("", wanted)


def excluded(place: Durable, main: Durable, ours: Sequence[Durable]) -> tuple[str, ...]:
    """The subjects that a durable beside `main` leaves to other durables, so that exactly one of them reads each message.

    `main` reads all of its subject. Of two others the one with the narrower subject goes first, else the one with the lesser name.
    """
    first = [each for each in ours if each != place and _goes_first(each, place)]
    return tuple(each.subject for each in (main, *first) if overlaps(each.subject, place.subject))


def progress(wanted: str, known: Mapping[Durable, int]) -> int | None:
    """The sequence up to which a subject is settled, by how far each durable is; None when no durable reads all of the subject."""
    holders = [each for each in known if covers(each.subject, wanted)]
    if not holders:
        return None
    holder = next(
        each for each in holders if all(not _goes_first(other, each) for other in holders if other != each)
    )
    parts = [each for each in known if _goes_first(each, holder) and overlaps(each.subject, wanted)]
    return min(known[each] for each in (holder, *parts))


def _goes_first(one: Durable, other: Durable) -> bool:
    if one.subject != other.subject:
        if covers(other.subject, one.subject):
            return True
        if covers(one.subject, other.subject):
            return False
    return one.durable < other.durable


def goes_on(wanted: str, before: str) -> bool:
    """Whether a durable that is made again for another subject goes on where it was: some messages of both subjects have run."""
    return overlaps(wanted, before)
