"""Messages that may kill their process: found out without blaming a neighbour.

A delivery beyond the first raises suspicion only: restarts and takeovers cause it too. So a suspect's starts are
recorded, and each start after a death is lonelier than the one before. Stages: 0 free, 1 recorded, 2 solo (no other
suspect beside it), 3 alone (nothing else in its process). Who dies alone, kills.

Rule 1: a suspect waits until it may start, counts as running, has its stage recorded, then starts. Recorded while
        it still waits, it would be blamed for a death that another message caused.
Rule 2: the record is deleted when the message is settled: an unsettled one means that the process died in that start.
Rule 3: what is already running stays; a message that may not start beside it waits, and nothing else is started
        while it does, or it might wait for ever.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from runner.core.settlement import Crashed

FREE = 0
RECORDED = 1
SOLO = 2
ALONE = 3


class RunFree(Struct, frozen=True):
    """Run it like any other; record nothing."""


class Run(Struct, frozen=True):
    """Wait until `may_start`, record this stage, then run."""

    stage: int


Step: TypeAlias = RunFree | Run | Crashed


def next_step(delivered: int, recorded: int) -> Step:
    """Decide how a message starts, from its delivery count (1 is the first) and its unsettled record (0: none)."""
    if delivered < 2:
        return RunFree()
    if recorded >= ALONE:
        return Crashed(starts=recorded)
    return Run(stage=recorded + 1)


def may_start(stage: int, *, running: int, suspects: int, highest: int) -> bool:
    """Tell whether a message of this stage may start now in its process.

    `running` counts all messages that run there, `suspects` those of stage 1 and up, `highest` is their top stage.
    """
    if stage >= ALONE or highest >= ALONE:
        return running == 0
    if stage == SOLO or (stage == RECORDED and highest == SOLO):
        return suspects == 0
    return True
