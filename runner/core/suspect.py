"""Messages that may kill their process: found out without blaming a neighbour.

A delivery beyond the first raises suspicion only: restarts and takeovers cause it too. So a suspect's starts are
recorded, each with its process, and each start after a death is lonelier than the one before. Stages: 0 free,
1 recorded, 2 solo (no other suspect beside it), 3 alone (nothing else in its process). Who dies alone, kills.

Rule 1: a suspect waits until it may start, counts as running, has its stage recorded, then starts. Recorded while
        it still waits, it would be blamed for a death that another message caused.
Rule 2: the record is deleted when the message is settled. A start that still stands in it is a death only if its process
        is gone: one that lives has lost the message, or its connection, and nothing else.
Rule 3: a process dies once, so it counts once.
Rule 4: what is already running stays; a message that may not start beside it waits, and nothing else is started
        while it does, or it might wait for ever. What ran alone counts as running until its start stands no more.
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
SOLO = 2
ALONE = 3

DEATHS = 3
"""Processes that must have died, the last of them with nothing else in it, before a message is found guilty."""
MOST = 8
"""Starts that a record keeps: the latest."""
LARGEST = 4096
"""Bytes of a record; what is longer is none of ours."""


class Start(Struct, frozen=True):
    """A start that was not settled: a death, if its process is gone."""

    instance: Owner
    """The process; empty where an earlier version recorded it, which named none."""
    stage: Annotated[int, Meta(ge=RECORDED, le=ALONE)]


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
    deaths = {start.instance: start.stage for start in record.starts if start.instance in gone}
    if len(deaths) >= DEATHS and max(deaths.values()) >= ALONE:
        return Crashed(starts=len(deaths))
    unnamed = [start.stage for start in record.starts if not start.instance]
    reached = max((*deaths.values(), *unnamed), default=FREE)
    return Run(stage=min(ALONE, reached + 1))


def may_start(stage: int, *, running: int, suspects: int, highest: int) -> bool:
    """Tell whether a message of this stage may start now in its process.

    `running` counts all messages that run there, `suspects` those of stage 1 and up, `highest` is their top stage.
    """
    if stage >= ALONE or highest >= ALONE:
        return running == 0
    if stage == SOLO or (stage == RECORDED and highest == SOLO):
        return suspects == 0
    return True
