"""Messages that a function kept back while it had `ordered_by`: once it has not, they are sent back to the function by its name.

Rule 1: parked messages run, and so do dead letters that were on their way back. The dead letter that a key was parked behind stays
        a dead letter, as those of other functions do.
Rule 2: each message is stored where the function reads it before it is removed from its old place, and has a Msg-Id of its own. So
        it does no harm to do this again, or in several instances at once.
Rule 3: a mark is freed last, so that whoever comes next finds the messages that are left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial

from runner.consumers.letters import Letters
from runner.core import identity, origin
from runner.core.park import Letter, Mark
from runner.core.quantity import counted
from runner.errors import JetrunnerError, PermissionDenied, Unconfirmed
from runner.jetstream.deadletterpage import StoredDeadLetter
from runner.jetstream.deadletters import DeadLetters, NotRedriven
from runner.jetstream.keymarks import KeyMarks
from runner.jetstream.ownstreams import PARKED
from runner.jetstream.parked import Parked, ParkedMessage, is_bare
from runner.jetstream.publisher import Outgoing
from runner.runtime.runtime import Runtime
from runner.telemetry.attempt import as_origin

log = logging.getLogger("jetrunner.parked")

PATIENCE_SECONDS = 30.0
RETRY_SECONDS = 5.0


class KeptBack:
    """Sends back the messages that are kept back of one function that keeps no order."""

    def __init__(self, runtime: Runtime, function: str) -> None:
        self._runtime = runtime
        self._function = function
        self._parked = Parked(runtime.connection, runtime.project, runtime.histories.original)
        self._marks = KeyMarks(runtime.connection, runtime.project)
        self._letters = DeadLetters(runtime.connection, runtime.histories.original)
        self._known = Letters(runtime, function)
        self._due = asyncio.Event()

    async def start(self) -> None:
        """Look now, and again whenever a mark that keeps messages back is written."""
        await self._marks.watch(self._function, lambda mark: self._due.set() if mark.diverts else None)
        self._runtime.tasks.start_soon(self._run)

    async def _run(self) -> None:
        while not self._runtime.connection.closed.is_set():
            self._due.clear()
            try:
                await self._look()
            except PermissionDenied as error:
                log.debug("cannot read what is kept back for %s: %s", self._function, error)
            except (JetrunnerError, ValueError) as error:
                log.warning(
                    "%s: messages that were kept back cannot be sent back yet: %s", self._function, error
                )
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await self._due.wait()

    async def _look(self) -> None:
        for history in (self._runtime.histories.bucket, self._runtime.histories.of(PARKED)):
            await history.follow()  # a leader that lags would leave out a key
        names = {key for _, key in await self._marks.names(self._function)}
        names.update(key for _, key in await self._parked.counts(self._function))
        for key in sorted(names):
            entry = await self._marks.mark(self._function, key)
            mark = entry.mark if entry is not None and entry.mark.diverts else None
            letters = await self._send_letters(mark) if mark is not None else 0
            messages = await self._send_parked(key)
            if letters or messages:
                log.warning(
                    "%s no longer keeps order: of key %s, %s and %s that were kept back run now",
                    self._function, key, counted(letters, "dead letter"), counted(messages, "parked message"),
                )  # fmt: skip
            if entry is not None and mark is not None:
                await self._marks.write(self._function, mark.freed(time.time()), entry.revision)

    async def _send_letters(self, mark: Mark) -> int:
        count = 0
        for letter in mark.letters:
            if (stored := await self._known.stored(letter)) is not None:
                count += await self._send_letter(stored, letter)
        behind = await self._known.parked_behind(mark) if mark.state == "returning" else None
        if behind is not None and (stored := await self._known.stored(behind)) is not None:
            count += await self._send_letter(stored, None)
        return count

    async def _send_letter(self, stored: StoredDeadLetter, letter: Letter | None) -> int:
        pairs = [*as_origin(stored.pairs), *letter.headers] if letter is not None else stored.pairs
        try:
            await self._letters.send_back(stored, pairs)
        except NotRedriven as error:
            log.error("%s: dead letter %d is kept: %s", self._function, stored.letter.sequence, error)
            return 0
        return 1

    async def _send_parked(self, key: str) -> int:
        count = after = 0
        history = self._runtime.histories.of(PARKED)
        moment = history.moment
        while (
            message := await history.surely(partial(self._parked.following, self._function, key, after))
        ) is not None:
            after = message.sequence + 1
            place = message.origin
            if place is None:
                continue  # somebody else's message
            if is_bare(message):
                await self._known.bury(message, place)
            else:
                await self._send(message, origin.build(place, message.pairs))
                count += 1
            if not await history.still(moment):
                raise Unconfirmed(f"{PARKED} may be another by now")  # and its sequences others' messages
            await self._parked.remove(message.sequence)
        return count

    async def _send(self, message: ParkedMessage, pairs: Sequence[tuple[str, str]]) -> None:
        target = identity.again_subject(self._runtime.project, self._function)
        place = message.origin
        assert place is not None
        own = ("Nats-Msg-Id", f"{place.stream}:{place.sequence}.{place.timestamp_ns}:{target}:unparked")
        outgoing = Outgoing(target, message.body, (*pairs, own))
        await self._runtime.connection.publisher.publish_surely(outgoing, PATIENCE_SECONDS)
