"""The dead letters of one function that come back with their keys."""

from __future__ import annotations

import logging

from runner.core import header, origin
from runner.core.park import Letter, Mark
from runner.engine.process import Process
from runner.engine.replay import Replayed
from runner.jetstream.deadletters import DeadLetters, Kept, Selection, Stored
from runner.telemetry.attempt import as_origin

log = logging.getLogger("jetrunner.parked")


class Letters:
    """Reads and removes them, at the stream's leader: a replica may lag."""

    def __init__(self, process: Process, function: str) -> None:
        self._function = function
        self._letters = DeadLetters(process.connection)
        self._selection = Selection(project=process.project, function=function)

    async def replayed(self, letter: Letter, since: float) -> Replayed | None:
        """One that comes back, `since` when its key does; None when it is gone, or cannot run."""
        stored = await self.stored(letter)
        if stored is None:
            log.info("%s: dead letter %d is gone, and does not come back", self._function, letter.sequence)
            return None
        pairs = [*as_origin(stored.pairs), *letter.headers] if letter.asked else stored.pairs
        place = stored.letter.origin
        try:
            headers, body = await self._letters.whole(stored.letter, pairs)
            header.encode(origin.build(place, headers))
        except (Kept, ValueError) as error:
            log.error("%s: dead letter %d stays: %s", self._function, letter.sequence, error)
            return None
        return Replayed(place, headers, body, letter.sequence, letter.asked or since, letter)

    async def stored(self, letter: Letter) -> Stored | None:
        """One by its number; another one of that number is none."""
        stored = await self._letters.following(self._selection, letter.sequence)
        if stored is None or stored.letter.sequence != letter.sequence:
            return None
        return stored if not letter.stored or stored.stored_ns == letter.stored else None

    async def remove(self, letter: Letter) -> None:
        """It is settled; no error when it is gone already."""
        if await self.stored(letter) is not None:
            await self._letters.remove(letter.sequence)

    async def parked_behind(self, mark: Mark) -> Letter | None:
        """The dead letter that a key was parked behind; earlier copies of it are removed."""
        if mark.given_up is None:
            return None
        found: list[Stored] = []
        last = 0
        async for stored in self._letters.browse(self._selection):
            last = stored.letter.sequence
            if stored.letter.origin.same(mark.given_up):
                found.append(stored)
        while (late := await self._letters.following(self._selection, last + 1)) is not None:
            last = late.letter.sequence
            if late.letter.origin.same(mark.given_up):
                found.append(late)
        for stored in found[:-1]:
            await self._letters.remove(stored.letter.sequence)
        if not found:
            return None
        letter = found[-1].letter
        return Letter(letter.sequence, found[-1].stored_ns, letter.origin_sequence, letter.timestamp_ns)
