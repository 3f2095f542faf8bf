"""A key's way back: its dead letters, then its parked messages, one after the other, in the key's own lane.

A parked key comes back this way, and so does a dead letter of an ordered function that somebody has sent back.

Rule 1: the lane is held all the time, so that newer messages wait behind. Once over 1,000 wait, they are let out for a moment,
        and parked.
Rule 2: each message is settled by a compare-and-set of the key's mark, and removed after that. If a settled one is still there, it
        is only removed. So after a crash the next owner knows where to continue.
Rule 3: its failures, and the time of its next attempt, are in the mark, too: the next owner goes on from there.
Rule 4: fences of output streams protect this as well: the server refuses what an instance that has lost the shard writes.
Rule 5: somebody may add dead letters to the mark meanwhile. Then a write from here is refused, and repeated on top of the new mark.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from functools import partial

from runner.consumers.letters import Letters
from runner.consumers.replayed import Replayed, known_as
from runner.core import failurerecord, identity
from runner.core.origin import Origin
from runner.core.park import Letter, Mark
from runner.core.quantity import counted
from runner.errors import JetrunnerError
from runner.jetstream.delivery import Delivery
from runner.jetstream.keymarks import MarkEntry
from runner.jetstream.ownstreams import PARKED
from runner.jetstream.parked import is_bare
from runner.jetstream.publisher import retry_until
from runner.ordered.lanes import Lanes
from runner.ordered.parking import Parking
from runner.ordered.replaying import Replaying
from runner.pipeline.fence import ShardOwnership

log = logging.getLogger("jetrunner.parked")

MOST_BEHIND = 1_000
"""Newer messages that wait in the lane, at most, before they are let out to be parked."""
LETTING_SECONDS = 2.0
PATIENCE_SECONDS = 30.0
RETRY_SECONDS = 2.0


class Unparking:
    """Brings one key back in the shard that this instance owns."""

    def __init__(self, parking: Parking, lanes: Lanes, ownership: ShardOwnership, key: bytes) -> None:
        self.key = key
        self.text = key.decode("utf-8", "surrogateescape")
        self._parking = parking
        self._lanes = lanes
        self._ownership = ownership
        self._letters = Letters(parking.runtime, parking.function)
        self._book = parking.book
        self._now = parking.runtime.connection.clock.now
        self._parked = parking.parked
        self._function = parking.function
        self._entry: MarkEntry
        """The mark, ours once it is taken."""
        self._after = 0
        """The key's parked messages up to this sequence of `PARKED` are settled."""
        self._history = parking.runtime.histories.of(PARKED)
        self._moment = -1, -1
        """The moment of the history of `PARKED` in which `_after` was read."""

    @property
    def _lasts(self) -> bool:
        """Whether messages that have ended here may be settled."""
        return self._lanes.fences.ownership is self._ownership

    @property
    def _ours(self) -> bool:
        """Whether messages may start here."""
        return self._lanes.owned and self._lasts

    async def run(self) -> None:
        """Return when the key is free, is parked again, or is for another owner to bring back."""
        number, count = 0, 0
        try:
            number = await self._enter()
            if not number or not await self._take():
                return
            while self._ours and self._entry.mark.state == "returning":
                replayed = await self._next()
                if replayed is None:
                    # Unless a dead letter was added in this moment.
                    await self._change(lambda mark: mark if mark.letters else mark.freed(time.time()))
                    continue
                if not await self._one(replayed):
                    return
                count += 1
                if self._lanes.ordering.waiting(self.key) > MOST_BEHIND:
                    self._lanes.turns.leave(number)
                    number = 0
                    await self._let_out()
                    number = await self._enter()
            if self._entry.mark.state == "free":
                log.info("%s: key %s is back: %s", self._function, self.text, counted(count, "message"))
        finally:
            if number:
                self._lanes.turns.leave(number)

    async def _enter(self) -> int:
        """Wait for the lane; returns our number in it, or 0 if the shard was lost."""
        while self._lanes.ordering.barrier and self._ours:
            await asyncio.sleep(0.01)
        if not self._ours:
            return 0
        number, turn = self._lanes.turns.enter(self.key)
        try:
            await turn.wait()
        except BaseException:
            self._lanes.turns.leave(number)
            raise
        return number

    async def _let_out(self) -> None:
        """Wait while the messages in the lane go on, and are parked behind the others."""
        until = time.monotonic() + LETTING_SECONDS
        while self._ours and time.monotonic() < until and self._lanes.ordering.waiting(self.key):
            await asyncio.sleep(0.01)

    # -- the mark ---------------------------------------------------------------------------------------

    async def _take(self) -> bool:
        """Make the mark ours from here on; False when there is nothing to do here."""
        entry = await self._book.read(self.key)
        while entry is not None and entry.mark.state == "returning" and self._ours:
            if not await self._ownership.lasts():
                self._ownership.end()
                return False
            mark = entry.mark
            if mark.letter:  # it is settled, and may not have been removed
                await self._letters.remove(Letter(mark.letter, mark.letter_stored, 0, 0))
            found = await self._letters.parked_behind(mark)
            taken = await self._write(mark.taken(self._ownership.claim.epoch, found), entry.revision)
            if taken is not None:
                self._entry = taken
                return True
            await asyncio.sleep(0.01)  # the mark was written meanwhile, or the one known here is old
            entry = await self._book.read(self.key)
        return False

    async def _write(self, mark: Mark, revision: int) -> MarkEntry | None:
        return await retry_until(lambda: self._book.write(mark, revision), PATIENCE_SECONDS)

    async def _change(self, change: Callable[[Mark], Mark]) -> bool:
        """Change the mark that stands in the bucket; False if it is no longer ours to write."""
        while self._lasts:
            after = change(self._entry.mark)
            if after == self._entry.mark:
                return True
            written = await self._write(after, self._entry.revision)
            if written is not None:
                self._entry = written
                return True
            standing = await self._book.read(self.key)
            if (
                standing is None
                or standing.mark.state != "returning"
                or standing.mark.epoch != self._ownership.claim.epoch
            ):
                return False
            self._entry = standing
        return False

    async def _fail(self, delivery: Delivery, delay: float) -> float | None:
        """Put a failure on record, however long that takes; returns the seconds until the next attempt, None if it is not ours."""
        message = -delivery.sequence
        before = self._entry.mark.failed
        if before is not None and not before.is_about(message):
            before = None
        record = failurerecord.once_more(before, delay, self._now(), message)
        while not delivery.settled:
            try:
                if not await self._change(lambda mark: mark.failing(record)):
                    return None
            except JetrunnerError as error:
                log.error("%s: a failure of key %s is not stored: %s", self._function, self.text, error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                delivery.attempt = 1 + record.count
                return record.rest(self._now())
        return None

    # -- what comes back --------------------------------------------------------------------------------

    async def _next(self) -> Replayed | None:
        """The next message in order; None if there is none, or it is not ours.

        A message that has failed and waits for its next attempt goes first, even if a dead letter was added since.
        """
        begun = self._entry.mark.failed.message if self._entry.mark.failed is not None else 0
        if 0 < begun <= known_as(0, letter=False):
            found = await self._next_parked()
            if found is not None and found.message == begun:
                return found
        while self._ours and (letters := self._entry.mark.letters):
            first = (each for each in letters if known_as(each.sequence, letter=True) == begun)
            letter = next(first, letters[0])
            found = await self._letters.replayed(letter, self._entry.mark.since)
            if found is not None:
                return found
            if not await self._change(partial(Mark.without, letter=letter)):
                return None
        return await self._next_parked()

    async def _next_parked(self) -> Replayed | None:
        """The next parked message; parked messages that are already settled are removed on the way."""
        while self._ours:
            if self._moment != self._history.moment:
                await self._history.follow()
                self._moment, self._after = self._history.moment, 0
            following = partial(self._parked.following, self._function, self.text, self._after + 1)
            message = await self._history.surely(following)
            if self._moment != self._history.moment:
                continue
            if message is None:
                return None
            place = message.origin or Origin(PARKED, message.sequence, 0, "")
            if self._entry.mark.settled(place):
                pass
            elif is_bare(message):  # it parks nothing: nothing could bring it back
                await self._letters.bury(message, place)
                if not await self._change(partial(Mark.passed, place=message.origin)):
                    return None
            else:
                return Replayed(place, message.pairs, message.body, message.sequence, self._entry.mark.since)
            await self._remove(message.sequence)
        return None

    async def _remove(self, sequence: int) -> None:
        """Remove a settled parked message. If its sequence may be another message's by now, it stays, and is looked at again."""
        if await self._history.still(self._moment):
            await self._parked.remove(sequence)
            self._after = sequence

    async def _one(self, replayed: Replayed) -> bool:
        """Run one message to its end and settle it; False if it is not ours to settle."""
        lanes, number = self._lanes, replayed.number
        source = Replaying(lanes, self._parking.pull.unsettled, self._parking.pipeline.queue, self._fail)
        record = self._entry.mark.failed
        if record is not None and not record.is_about(replayed.message):
            record = None
        subject = identity.parked_subject(self._parking.runtime.project, self._function, self.text)
        try:
            delivery = replayed.delivery(subject, self._function, record, source)
            lanes.turns.replayed[number] = delivery
            source.start(delivery, record.rest(self._now()) if record is not None else 0.0)
            verb = await source.ended
            if verb is None or not self._lasts:
                while delivery.task is not None:  # its lane is free when the handler has ended
                    await asyncio.sleep(0.02)
                return False
            parks = source.parks and self._parking.parks
            settled = partial(self._change, lambda mark: _settled(mark, replayed, parks=parks))
            # However long the bucket is out of reach: else the message would run again.
            if not await retry_until(
                settled, math.inf, f"{self._function}: the end of a message of key {self.text}"
            ):
                return False
            if parks:
                log.warning("%s: key %s is parked again", self._function, self.text)
            if replayed.letter is not None:
                await self._letters.remove(replayed.letter)
            else:
                await self._remove(replayed.sequence)
            return True
        finally:
            source.unsettled.pop(number, None)
            lanes.turns.replayed.pop(number, None)


def _settled(mark: Mark, replayed: Replayed, *, parks: bool) -> Mark:
    """The mark once a message that came back has ended."""
    if replayed.letter is not None:
        mark = mark.passed_letter(replayed.letter)
    else:  # a message without an origin was put there by somebody else
        mark = mark.passed(replayed.place if replayed.place.stream != PARKED else None)
    return mark.parked(replayed.place, time.time()) if parks else mark
