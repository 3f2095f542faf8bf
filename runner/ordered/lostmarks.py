"""Marks that were lost with the bucket, made from what stands in `PARKED`.

Nothing newer runs before what is parked, and nothing parked is forgotten. A key that was parked with nothing behind it
leaves no trace there: it goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from runner.consumers.letters import Letters
from runner.core import park
from runner.core.park import Letter, Mark
from runner.core.sharding import key
from runner.jetstream.keymarks import Entry, KeyMarks
from runner.jetstream.parked import Parked
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.parked")


async def found(
    runtime: Runtime, function: str, positions: tuple[int, ...], lost: Mapping[str, Entry | None]
) -> AsyncIterator[Entry]:
    """The marks of these keys, which have parked messages and no mark that keeps others back; they are written.

    What is left over of a key that is back, and settled, is removed. A mark of a key made of other tokens is not written.
    """
    parked, marks = Parked(runtime.connection, runtime.project), KeyMarks(runtime.connection, runtime.project)
    first: dict[str, Mark] = {}
    for text, entry in lost.items():
        mark = await _first(parked, function, text, positions, entry)
        if mark is not None:
            first[text] = mark
    letters = await _letters(runtime, function, positions, first) if first else {}
    for text, mark in first.items():
        entry, after = lost[text], mark
        behind = [
            each for each in letters[text] if mark.through is None or each.place <= mark.through.sequence
        ]
        if mark.positions == positions:
            after = mark.asked(behind[-1:], time.time())
            written = await marks.write(function, after, entry.revision if entry is not None else 0)
            if written is None:
                written = await marks.mark(function, text)
            elif written.mark == after:
                log.warning("%s: key %s has messages in PARKED and no mark: it is parked", function, text)
            if written is not None:
                yield written
        else:
            yield Entry(after, 0)


async def _first(
    parked: Parked, function: str, text: str, positions: tuple[int, ...], entry: Entry | None
) -> Mark | None:
    """The mark that the oldest parked message of a key makes; None when none of them is to run."""
    after = 0
    while (message := await parked.following(function, text, after)) is not None:
        place, after = message.origin, message.sequence + 1
        if place is None:  # somebody else's
            continue
        if entry is not None and entry.mark.settled(place):
            await parked.remove(message.sequence)
            continue
        mark = park.found_parked(place, text, positions, time.time())
        return mark if mark.key_of(place.subject) == text else park.found_parked(place, text, (), time.time())
    return None


async def _letters(
    runtime: Runtime, function: str, positions: Sequence[int], keys: Collection[str]
) -> dict[str, list[Letter]]:
    """The dead letters of these keys, by their order: the last one before what is parked is what a key waits behind."""
    gathered: dict[str, list[Letter]] = {text: [] for text in keys}
    async for stored in Letters(runtime, function).all():
        letter = stored.letter
        try:
            text = key(letter.subject, positions)
        except ValueError:
            continue
        if text in gathered and letter.reason != "expired":
            place = letter.origin_sequence, letter.timestamp_ns
            gathered[text].append(Letter(letter.sequence, stored.stored_ns, *place))
    for each in gathered.values():
        each.sort(key=lambda letter: letter.order)
    return gathered
