"""The dead letters of parked keys: that of the message a key waits behind (its head), and those on their way back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from runner.core.deadletter import DeadLetter
from runner.core.origin import Origin
from runner.core.park import Mark
from runner.jetstream.deadletters import DeadLetters, Selection
from runner.jetstream.parked import Name

MARGIN = timedelta(hours=1)
"""Tolerance for differing clocks: a dead letter is stored before its key is parked, but another clock tells that time."""


async def letters_of(
    letters: DeadLetters, project: str, marks: Mapping[Name, Mark]
) -> dict[Name, list[DeadLetter]]:
    """The dead letters of each key, the newest last; only keys that have some."""
    found: dict[Name, list[DeadLetter]] = {}
    for function in {name for name, _ in marks}:
        keys = {each: mark for each, mark in marks.items() if each[0] == function}
        since = None
        if not any(mark.letters for mark in keys.values()):
            since = datetime.fromtimestamp(min(mark.since for mark in keys.values()), UTC) - MARGIN
        part = await _read(letters, Selection(project=project, function=function, since=since), keys)
        if since is not None and any(mark.given_up and each not in part for each, mark in keys.items()):
            part = await _read(letters, Selection(project=project, function=function), keys)
        found |= part
    return found


def head_of(mark: Mark, letters: list[DeadLetter]) -> DeadLetter | None:
    """The dead letter of the message that a key waits behind; None if it is gone, or nothing is known of it."""
    return next((each for each in reversed(letters) if each.origin.same(mark.given_up)), None)


async def _read(
    letters: DeadLetters, selection: Selection, keys: Mapping[Name, Mark]
) -> dict[Name, list[DeadLetter]]:
    behind = {_place(mark.given_up): name for name, mark in keys.items() if mark.given_up is not None}
    coming = {letter.sequence: name for name, mark in keys.items() for letter in mark.letters}
    found: dict[Name, list[DeadLetter]] = defaultdict(list)
    async for stored in letters.browse(selection):
        letter = stored.letter
        name = coming.get(letter.sequence) or behind.get(_place(letter.origin))
        if name is not None:
            found[name].append(letter)
    return dict(found)


def _place(origin: Origin) -> tuple[str, int, int]:
    return origin.stream, origin.sequence, origin.timestamp_ns
