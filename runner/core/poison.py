"""Messages that may kill their process: they are found without blaming other messages, or a message for a kill from outside.

A delivery beyond the first raises suspicion only, because restarts and takeovers cause it too. So a suspect's starts are recorded,
each with its process. Stages: 0 free; 1 recorded; 2 in a cell (a process of its own, beside this one, that runs nothing else);
3 alone (nothing else runs in this process). If a cell dies while the process beside it lives, its message has killed it.

Rule 1: a suspect waits until it may start, counts as running, has its stage recorded, then starts. If it were recorded while it
        still waits, it would be blamed for a death that another message caused.
Rule 2: the record is deleted when the message is settled. A start that is still in the record is a death only if its process
        is gone: a process that lives has only lost the message, or its connection.
Rule 3: a process dies once, so it counts once.
Rule 4: if the process beside a cell survives its death, the message caused the death. A death that is found later may have another
        cause, such as the loss of the machine: then the message runs in a cell, and others go on.
Rule 5: a message that kills the process beside its cell, too, again and again, runs alone, because such a death looks like one from
        outside. Messages that already run go on; no others are started, or it might wait for ever. It counts as running until the
        record of its start is removed.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from runner.core import checked
from runner.core.checked import Count, OwnerName, Unfit
from runner.core.settlement import Crashed

FREE = 0
RECORDED = 1
CELL = 2
ALONE = 3

SEEN_DEATHS = 2
"""How many cells must have died with a message, each seen by a process that lives, before the message is given up."""
DEATHS = 3
"""Else: how many processes must have died with it, ..."""
ALONE_DEATHS = 2
"""... this many of them while nothing else ran in them."""
PATIENCE = 5
"""A message runs alone after this many deaths found later, because they cannot be told from kills from outside."""
MOST = 8
"""How many starts a record keeps: the latest ones."""
LARGEST = 4096
"""Most bytes of a record; longer bytes are no record of ours."""


class Start(Struct, frozen=True):
    """A start that was not settled: a death, if its process is gone."""

    instance: OwnerName
    """The process; empty in the record of an earlier version, which named no process."""
    stage: Annotated[int, Meta(ge=RECORDED, le=ALONE)]
    seen: bool = False
    """Whether the start ended with the death of a cell, seen by the process that had started the cell."""


class StartRecord(Struct, frozen=True):
    """The starts of one message, at most one of each process."""

    stored: Count
    """When the message was stored, in nanoseconds of Unix time: another message may have had its number."""
    starts: Annotated[tuple[Start, ...], Meta(max_length=MOST)] = ()

    def started(self, start: Start) -> StartRecord:
        """Add a start; an earlier start in the same process counts no more."""
        return StartRecord(self.stored, (*self.without(start.instance).starts, start)[-MOST:])

    def without(self, instance: str) -> StartRecord:
        """Remove the start of a process that lives on without the message."""
        return StartRecord(self.stored, tuple(start for start in self.starts if start.instance != instance))

    def encode(self) -> bytes:
        """Write the record for the bucket."""
        return msgspec.json.encode(self)


_record = checked.json(StartRecord)


def read(value: bytes | None, stored: int) -> StartRecord:
    """Read the record of the message that was stored at `stored`; empty for another message. Raises `Unfit`."""
    if not value:
        return StartRecord(stored)
    if (
        len(value) == 1 and value.isdigit()
    ):  # as earlier versions wrote it: the stage alone, of any message with that sequence
        stage = int(value)
        return StartRecord(stored, (Start("", min(ALONE, stage)),) if stage else ())
    if len(value) > LARGEST:
        raise Unfit("it is too long")
    record = _record(value)
    return record if record.stored == stored else StartRecord(stored)


class Run(Struct, frozen=True):
    """Wait until `may_start`, record this stage, then run."""

    stage: int


PoisonStep: TypeAlias = Run | Crashed


def next_step(record: StartRecord, gone: AbstractSet[str]) -> PoisonStep:
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
    """Tell whether a message of this stage may start now in its process; a message in a cell does not run in that process.

    `running` counts all messages that run in the process, `highest` is the highest stage of the suspects among them.
    """
    return running == 0 if max(stage, highest) >= ALONE else True
