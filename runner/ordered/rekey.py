"""Marks of keys made from other tokens, without parked messages: their dead letters move to the present keys.

Dead letters were sent back, and then the function's order was changed before they had run. Nothing else waits for them.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence

from runner.consumers.letters import Letters
from runner.core import park
from runner.core.park import Letter
from runner.core.sharding import key
from runner.jetstream.keymarks import KeyMarks, MarkEntry
from runner.jetstream.ownstreams import PARKED
from runner.jetstream.parked import Parked
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.parked")


async def rekey(
    runtime: Runtime, function: str, positions: tuple[int, ...], standing: Sequence[MarkEntry]
) -> list[MarkEntry]:
    """Carry over those of these marks that can be; returns the others. Raises JetrunnerError."""
    parked = Parked(runtime.connection, runtime.project)
    waiting: set[str] | None = None
    left: list[MarkEntry] = []
    for entry in standing:
        mark = entry.mark
        if (
            mark.diverts
            and mark.positions != positions
            and mark.state == "returning"
            and mark.given_up is None
        ):
            if waiting is None:
                await runtime.histories.of(PARKED).follow()  # a leader that is behind would leave out a key
                waiting = await parked.keys(function, mark.positions)
            if mark.key not in waiting and await _carry(runtime, function, positions, entry):
                continue
        left.append(entry)
    return left


async def _carry(runtime: Runtime, function: str, positions: tuple[int, ...], entry: MarkEntry) -> bool:
    """Carry over one mark; False if another instance has written it meanwhile."""
    marks, now = KeyMarks(runtime.connection, runtime.project), time.time()
    letters = await _letters(runtime, function, positions, entry.mark.letters)
    same = letters.pop(entry.mark.key, [])
    for text, group in letters.items():
        await marks.send_back(function, text, positions, group, now, even_parked=True)
    # Last: after a crash the next instance still finds the mark.
    after = park.unmarked(entry.mark.key, positions).asked(same, now) if same else entry.mark.freed(now)
    written = await marks.write(function, after, entry.revision)
    if written is not None:
        log.warning(
            "%s: dead letters that are redriven to key %s are ordered by the present ordered_by=",
            function,
            entry.mark.key,
        )
    return written is not None


async def _letters(
    runtime: Runtime, function: str, positions: Sequence[int], letters: Sequence[Letter]
) -> dict[str, list[Letter]]:
    """The dead letters by their present keys. A letter that is gone, or has no key, does not come back."""
    found: dict[str, list[Letter]] = defaultdict(list)
    for letter in letters:
        stored = await Letters(runtime, function).stored(letter)
        if stored is None:
            continue
        try:
            found[key(stored.letter.subject, positions)].append(letter)
        except ValueError as error:
            log.error("%s: dead letter %d is kept: %s", function, letter.sequence, error)
    return found
