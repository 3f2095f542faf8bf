"""A parked key's way back: its dead letter, then its parked messages, one after the other, in the key's own lane.

Rule 1: the lane is held all the time, so that newer messages wait behind. When very many do, they are let out for a
        moment, and parked.
Rule 2: each is settled by a compare-and-set of the key's mark, and removed after that: one that is still there and
        settled is only removed. So whoever goes on after a crash knows where.
Rule 3: what stands in an output stream's fence holds here, too; what an instance writes that has lost the shard is refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from runner.core import header, identity, origin
from runner.core.origin import Origin
from runner.core.park import Mark
from runner.core.quantity import counted
from runner.engine.failures import renew
from runner.engine.fence import Tenure
from runner.engine.incoming import Incoming
from runner.jetstream.deadletters import DeadLetters, Kept, Selection, Stored
from runner.jetstream.delivery import Delivery
from runner.jetstream.ownstreams import DEADLETTERS, PARKED
from runner.jetstream.parked import Entry, is_bare
from runner.jetstream.publisher import insist

if TYPE_CHECKING:
    from runner.engine.lanes import Lanes
    from runner.engine.park import Parking

log = logging.getLogger("jetrunner.parked")

MOST_BEHIND = 1_000
"""Newer messages that wait in the lane, at most, before they are let out to be parked."""
LETTING_SECONDS = 2.0
PATIENCE_SECONDS = 30.0
FIRST_PARKED = -(1 << 61)
FIRST_LETTER = FIRST_PARKED - (1 << 60)
"""Sequences of their streams are counted from here: these numbers name a message on its way back, in any process."""


class Item(Struct, frozen=True):
    """One message that comes back."""

    place: Origin
    headers: Sequence[tuple[str, str]]
    body: bytes
    sequence: int
    letter: bool
    """Whether it is a dead letter, and `sequence` in their stream; else in `PARKED`."""

    @property
    def number(self) -> int:
        """What its delivery is known by."""
        return self.sequence + (FIRST_LETTER if self.letter else FIRST_PARKED)


class Back:
    """The source of one message on its way back."""

    abandons = False
    """A handler that ignores its timeout holds its key's lane until it ends."""

    def __init__(self, parking: Parking, shard: Lanes) -> None:
        self.unsettled = parking.pull.unsettled
        self.limit = 1
        self.fences = shard.fences
        self.number = shard.number
        self.parks = False
        """Whether it was given up for a reason that parks its key."""
        loop = parking.process.loop
        self.ended: asyncio.Future[bytes | None] = loop.create_future()
        """What it was answered with; None when it was given back."""
        self._loop = loop
        self._shard = shard
        self._queue = parking.pipeline.queue

    def ack(self, delivery: Delivery) -> None:
        """It has succeeded."""
        self.settle(delivery, b"+ACK")

    def settle(self, delivery: Delivery, verb: bytes) -> None:
        """It has ended."""
        self._end(delivery, verb)

    def give_back(self, delivery: Delivery) -> None:
        """It has not, and will not here."""
        self._end(delivery, None)

    async def park(self, incoming: Incoming) -> None:
        """It was given up: the key is parked again, once what it comes from is settled."""
        self.parks = True

    async def again(self, delivery: Delivery, delay: float) -> None:
        """Count the failure, and run it again after `delay` seconds."""
        if await self._shard.failures.next_attempt(delivery):
            self._loop.call_later(delay, self._start_again, delivery)

    def later(self, delivery: Delivery, delay: float) -> None:
        """Run it after `delay` seconds; nothing failed."""
        renew(delivery)
        self._loop.call_later(delay, self._start_again, delivery)

    def _start_again(self, delivery: Delivery) -> None:
        if not delivery.settled:
            self._queue.arrive(delivery)

    def _end(self, delivery: Delivery, verb: bytes | None) -> None:
        if not delivery.settled:
            del self.unsettled[delivery.sequence]
            self.ended.set_result(verb)


class Comeback:
    """Brings one key back in the shard that this instance owns."""

    def __init__(self, parking: Parking, shard: Lanes, tenure: Tenure, key: bytes) -> None:
        self.key = key
        self.text = key.decode()
        self._parking = parking
        self._shard = shard
        self._tenure = tenure
        self._letters = DeadLetters(parking.process.connection)
        self._parked = parking.parked
        self._function = parking.function

    @property
    def _ours(self) -> bool:
        return self._shard.owned and self._shard.fences.tenure is self._tenure

    async def run(self) -> None:
        """Returns when the key is free, is parked again, or is for another owner to bring back."""
        number = 0
        try:
            number = await self._enter()
            entry = await self._take() if number else None
            if entry is None:
                return
            count = 0
            async for item in self._items(entry.mark):
                entry = await self._one(item, entry)
                if entry is None or entry.mark.state != "returning":
                    return
                count += 1
                if self._shard.ordering.waiting(self.key) > MOST_BEHIND:
                    self._shard.leave(number)
                    number = 0
                    await self._let_out()
                    number = await self._enter()
            if self._ours and await self._write(entry, entry.mark.freed(time.time())) is not None:
                log.info("%s: key %s is back: %s", self._function, self.text, counted(count, "message"))
        finally:
            if number:
                self._shard.leave(number)

    async def _enter(self) -> int:
        """Wait for the lane: our number in it; 0 when the shard was lost."""
        while self._shard.ordering.barrier and self._ours:
            await asyncio.sleep(0.01)
        if not self._ours:
            return 0
        number, turn = self._shard.enter(self.key)
        try:
            await turn.wait()
        except BaseException:
            self._shard.leave(number)
            raise
        return number

    async def _let_out(self) -> None:
        """What waits in the lane goes on, and is parked behind the others."""
        until = time.monotonic() + LETTING_SECONDS
        while self._ours and time.monotonic() < until and self._shard.ordering.waiting(self.key):
            await asyncio.sleep(0.01)

    async def _take(self) -> Entry | None:
        """The mark, ours from here on; None when there is nothing to do here."""
        entry = await self._parking.read(self.key)
        if entry is None or entry.mark.state != "returning" or not self._ours:
            return None
        if not await self._tenure.lasts():
            self._tenure.end()
            return None
        return await self._write(entry, entry.mark.taken(self._tenure.claim.epoch))

    async def _write(self, entry: Entry, mark: Mark) -> Entry | None:
        written = await insist(
            lambda: self._parked.write(self._function, self.text, mark, entry.revision), PATIENCE_SECONDS
        )
        if written is None:
            await self._parking.read(self.key)
        else:
            self._parking.know(self.key, written)
        return written

    # -- what comes back --------------------------------------------------------------------------------

    async def _items(self, mark: Mark) -> AsyncIterator[Item]:
        """All of it, in order; what was settled before is removed on the way."""
        stored = await self._letter(mark)
        if stored is not None:
            try:
                headers, body = await self._letters.whole(stored.letter, stored.pairs)
                yield Item(stored.letter.origin, headers, body, stored.letter.sequence, letter=True)
            except Kept as error:
                log.error("%s: dead letter %d stays: %s", self._function, stored.letter.sequence, error)
        after = 0
        while self._ours:
            message = await self._parked.following(self._function, self.text, after)
            if message is None:
                return
            after = message.sequence + 1
            place = message.origin or Origin(PARKED, message.sequence, 0, "")
            known = self._parking.marks.get(self.key)
            if known is not None and known.mark.settled(place):
                await self._parked.remove(message.sequence)
            elif is_bare(message):
                log.error(
                    "%s: %s:%d is gone and cannot come back", self._function, place.stream, place.sequence
                )
            else:
                yield Item(place, message.pairs, message.body, message.sequence, letter=False)

    async def _letter(self, mark: Mark) -> Stored | None:
        """The dead letter that the key was parked behind; one that is settled, and earlier copies, are removed."""
        if mark.given_up is None:
            if mark.letter:
                await self._letters.remove(mark.letter)
            return None
        selection = Selection(project=self._parking.process.project, function=self._function)
        found: list[Stored] = []
        last = 0
        async for stored in self._letters.browse(selection):
            last = stored.letter.sequence
            if stored.letter.origin.same(mark.given_up):
                found.append(stored)
        # A replica that lags may have left out the latest.
        while (late := await self._letters.following(selection, last + 1)) is not None:
            last = late.letter.sequence
            if late.letter.origin.same(mark.given_up):
                found.append(late)
        for stored in found[:-1]:
            await self._letters.remove(stored.letter.sequence)
        return found[-1] if found and found[-1].letter.sequence != mark.letter else None

    async def _one(self, item: Item, entry: Entry) -> Entry | None:
        """Run one to its end and settle it; the mark after it, None when it is not ours to settle."""
        shard, number = self._shard, item.number
        source = Back(self._parking, shard)
        delivery = shard.returned[number] = self._delivery(item, entry.mark, source)
        try:
            source.unsettled[number] = delivery
            self._parking.pipeline.queue.arrive(delivery)
            verb = await source.ended
            if verb is None or shard.fences.tenure is not self._tenure:
                while delivery.task is not None:  # its lane is free when the handler has ended
                    await asyncio.sleep(0.02)
                return None
            mark = entry.mark.passed(item.place, item.sequence if item.letter else 0)
            if source.parks:
                mark = mark.parked(item.place, time.time())
            after = await self._write(entry, mark)
            if after is not None:
                if source.parks:
                    log.warning("%s: key %s is parked again", self._function, self.text)
                await (self._letters if item.letter else self._parked).remove(item.sequence)
                await shard.failures.drop(number)
            return after
        finally:
            source.unsettled.pop(number, None)
            shard.returned.pop(number, None)

    def _delivery(self, item: Item, mark: Mark, source: Back) -> Delivery:
        """As if it had just come from its stream: aged since the key began to come back, suspect of its past."""
        subject = identity.parked_subject(self._parking.process.project, self._function, self.text)
        stream = DEADLETTERS if item.letter else PARKED
        reply = f"$JS.ACK.{stream}.{self._function}.1.{item.sequence}.0.{int(mark.since * 1e9)}.0"
        block = header.encode(origin.build(item.place, item.headers))
        failures = self._shard.failures.counts.get(item.number, 0)
        delivery = Delivery(
            subject.encode(), reply.encode(), block, item.body, item.number, 1 + failures, source
        )
        delivery.careful = True
        delivery.deliveries = 2  # nobody counts them: its start is recorded each time
        return delivery
