"""Messages that may kill their process: found out without blaming a neighbour, or for what was done from outside.

A delivery beyond the first raises suspicion only: restarts and takeovers cause it too. So a suspect's starts are
recorded, each with its process. Stages: 0 free, 1 recorded, 2 in a cell (a process of its own, beside this one, that runs
nothing else), 3 alone (nothing else in this process). Who dies in a cell while the process beside it lives, kills.

Rule 1: a suspect waits until it may start, counts as running, has its stage recorded, then starts. Recorded while
        it still waits, it would be blamed for a death that another message caused.
Rule 2: the record is deleted when the message is settled. A start that still stands in it is a death only if its process
        is gone: one that lives has lost the message, or its connection, and nothing else.
Rule 3: a process dies once, so it counts once.
Rule 4: a death that a living process has seen from beside is the message's own doing. One that was found later may have
        been done from outside, to the whole machine: the message goes to a cell, and others go on.
Rule 5: what takes the process beside its cell along, again and again, runs alone: nothing tells such a death from one from
        outside. What is already running stays; nothing else is started, or it might wait for ever. What ran alone
        counts as running until its start stands no more.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from runner.core import checked
from runner.core.checked import Count, Owner, Unfit
from runner.core.settlement import Crashed

FREE = 0
RECORDED = 1
CELL = 2
ALONE = 3

SEEN_DEATHS = 2
"""Cells that must have died with a message, seen by a process that lives, before it is found guilty."""
DEATHS = 3
"""Else: processes that must have died with it, ..."""
ALONE_DEATHS = 2
"""... so many of them with nothing else in them."""
PATIENCE = 5
"""Deaths found later after which a message runs alone: what tells them from those from outside is not to be had."""
MOST = 8
"""Starts that a record keeps: the latest."""
LARGEST = 4096
"""Bytes of a record; what is longer is none of ours."""


class Start(Struct, frozen=True):
    """A start that was not settled: a death, if its process is gone."""

    instance: Owner
    """The process; empty where an earlier version recorded it, which named none."""
    stage: Annotated[int, Meta(ge=RECORDED, le=ALONE)]
    seen: bool = False
    """Whether it is the death of a cell, seen by the process that had started it."""


class Record(Struct, frozen=True):
    """The starts of one message, at most one of each process."""

    stored: Count
    """When the message was stored, in nanoseconds of Unix time: another message may have had its number."""
    starts: Annotated[tuple[Start, ...], Meta(max_length=MOST)] = ()

    def started(self, start: Start) -> Record:
        """It starts once more; an earlier start in the same process counts no more."""
        return Record(self.stored, (*self.without(start.instance).starts, start)[-MOST:])

    def without(self, instance: str) -> Record:
        """The process lives on without it."""
        return Record(self.stored, tuple(start for start in self.starts if start.instance != instance))

    def encode(self) -> bytes:
        """As it stands in the bucket."""
        return msgspec.json.encode(self)


_record = checked.json(Record)


def read(value: bytes | None, stored: int) -> Record:
    """What is on record of the message that was stored then. Raises `Unfit`."""
    if not value:
        return Record(stored)
    if (
        len(value) == 1 and value.isdigit()
    ):  # as earlier versions wrote it: the stage, of any message of that number
        stage = int(value)
        return Record(stored, (Start("", min(ALONE, stage)),) if stage else ())
    if len(value) > LARGEST:
        raise Unfit("it is too long")
    record = _record(value)
    return record if record.stored == stored else Record(stored)


class Run(Struct, frozen=True):
    """Wait until `may_start`, record this stage, then run."""

    stage: int


Step: TypeAlias = Run | Crashed


def next_step(record: Record, gone: AbstractSet[str]) -> Step:
    """Decide how a message starts that was delivered before, from its record and the processes that are gone."""
    seen = sum(start.seen for start in record.starts)
    found = {
        start.instance: start.stage for start in record.starts if start.instance in gone and not start.seen
    }
    alone = sum(stage >= ALONE for stage in found.values())
    if seen >= SEEN_DEATHS or (alone >= ALONE_DEATHS and seen + len(found) >= DEATHS):
        return Crashed(starts=seen + len(found))
    unnamed = max((start.stage for start in record.starts if not start.instance), default=FREE)
    if alone or len(found) >= PATIENCE or unnamed >= CELL:
        return Run(ALONE)
    return Run(CELL if seen or found or unnamed else RECORDED)


def may_start(stage: int, *, running: int, highest: int) -> bool:
    """Tell whether a message of this stage may start now in its process; one in a cell is not in it.

    `running` counts all messages that run there, `highest` is the top stage of the suspects among them.
    """
    return running == 0 if max(stage, highest) >= ALONE else True
