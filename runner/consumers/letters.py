"""The dead letters of one function that come back with their keys."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial

from runner.consumers.replayed import Replayed
from runner.core import deadletter, header, identity, origin
from runner.core.deadletter import GivenUp
from runner.core.origin import Origin
from runner.core.park import Letter, Mark
from runner.jetstream.deadletterpage import StoredDeadLetter
from runner.jetstream.deadletters import DeadLetters, NotRedriven, Selection
from runner.jetstream.ownstreams import DEADLETTERS, PARKED
from runner.jetstream.parked import ParkedMessage
from runner.jetstream.publisher import retry_until
from runner.runtime.runtime import Runtime
from runner.telemetry.attempt import as_origin

log = logging.getLogger("jetrunner.parked")

PATIENCE_SECONDS = 30.0
OMITTED = (deadletter.BODY, deadletter.OMITTED), (deadletter.HEADERS, deadletter.OMITTED)


class Letters:
    """Reads and removes a function's dead letters, at the stream's leader: a replica may lag."""

    def __init__(self, runtime: Runtime, function: str) -> None:
        self._function = function
        self._letters = DeadLetters(runtime.connection, runtime.histories.original)
        self._project = runtime.project
        self._selection = Selection(project=runtime.project, function=function)
        self._histories = runtime.histories

    async def replayed(self, letter: Letter, since: float) -> Replayed | None:
        """Make a returning message of a dead letter; `since` is when its key returns. None if the letter is gone, or cannot run."""
        stored = await self.stored(letter)
        if stored is None:
            log.info("%s: dead letter %d is gone, and does not come back", self._function, letter.sequence)
            return None
        pairs = [*as_origin(stored.pairs), *letter.headers] if letter.asked else stored.pairs
        place = stored.letter.origin
        try:
            headers, body = await self._letters.whole(stored.letter, pairs)
            header.encode(origin.build(place, headers))
        except (NotRedriven, ValueError) as error:
            log.error("%s: dead letter %d is kept: %s", self._function, letter.sequence, error)
            return None
        return Replayed(place, headers, body, letter.sequence, letter.asked or since, letter)

    async def stored(self, letter: Letter) -> StoredDeadLetter | None:
        """The dead letter at its sequence; None if it is gone, or if another message has that sequence."""
        history = self._histories.of(DEADLETTERS)
        stored = await history.surely(partial(self._letters.following, self._selection, letter.sequence))
        if stored is None or stored.letter.sequence != letter.sequence:
            return None
        return stored if not letter.stored or stored.stored_ns == letter.stored else None

    async def all(self) -> AsyncIterator[StoredDeadLetter]:
        """All dead letters, oldest first. Letters that a lagging replica leaves out are read from the leader."""
        last, history = 0, self._histories.of(DEADLETTERS)
        async for stored in self._letters.browse(self._selection):
            last = stored.letter.sequence
            yield stored
        following = self._letters.following
        while (late := await history.surely(partial(following, self._selection, last + 1))) is not None:
            last = late.letter.sequence
            yield late

    async def remove(self, letter: Letter) -> None:
        """Remove a settled dead letter; no error if it is gone already."""
        if await self.stored(letter) is not None:
            await self._letters.remove(letter.sequence)

    async def parked_behind(self, mark: Mark) -> Letter | None:
        """The dead letter that a key was parked behind; older copies of that letter are removed."""
        if mark.given_up is None:
            return None
        found = [each async for each in self.all() if each.letter.origin.same(mark.given_up)]
        for stored in found[:-1]:
            await self._letters.drop(stored)
        if not found:
            return None
        letter = found[-1].letter
        return Letter(letter.sequence, found[-1].stored_ns, letter.origin_sequence, letter.timestamp_ns)

    async def bury(self, message: ParkedMessage, place: Origin) -> None:
        """Make a dead letter of a parked message whose body is gone. Doing it again makes no second one.

        Returns once the dead letter is stored. Raises JetrunnerError.
        """
        why = f"it was too large to be parked with its body, and {place.stream}:{place.sequence} is not there any more"
        given_up = GivenUp(0, "object_missing", why)
        facts = deadletter.facts(place, datetime.now(UTC), self._project, self._function, given_up)
        durable = identity.durable(self._project, self._function)
        own = f"{PARKED}:{message.sequence}.{place.timestamp_ns}:{durable}:dead"
        pairs = [*deadletter.build(facts, ()), *OMITTED]
        await retry_until(partial(self._letters.store, facts, pairs, b"", own), PATIENCE_SECONDS)
        log.error("%s: %s:%d is a dead letter: %s", self._function, place.stream, place.sequence, why)
