"""Marks that were lost with the bucket, made from what stands in `PARKED`.

No newer message runs before parked ones, and no parked message is forgotten. A key that was parked without any message in `PARKED`
cannot be found: its next messages run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from runner.consumers.letters import Letters
from runner.core import park
from runner.core.park import Letter, Mark
from runner.core.sharding import key
from runner.jetstream.keymarks import KeyMarks, MarkEntry
from runner.jetstream.parked import Parked
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.parked")


async def found(
    runtime: Runtime, function: str, positions: tuple[int, ...], lost: Mapping[str, MarkEntry | None]
) -> AsyncIterator[MarkEntry]:
    """Make and write the marks of these keys, which have parked messages and no mark that keeps later messages back.

    Parked messages that are already settled are removed. A mark of a key made of other tokens is returned, but not written.
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
                log.warning(
                    "%s: key %s has messages in PARKED, but its mark is lost: it is parked again",
                    function,
                    text,
                )
            if written is not None:
                yield written
        else:
            yield MarkEntry(after, 0)


async def _first(
    parked: Parked, function: str, text: str, positions: tuple[int, ...], entry: MarkEntry | None
) -> Mark | None:
    """The mark made from the oldest parked message of a key; None if none of its parked messages is to run."""
    after = 0
    while (message := await parked.following(function, text, after)) is not None:
        place, after = message.origin, message.sequence + 1
        if place is None:  # somebody else has put it there
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
    """The dead letters of these keys, in order. A key waits behind the last dead letter before its parked messages."""
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
