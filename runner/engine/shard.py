"""One shard of one ordered function, while this instance owns it: the source of its deliveries.

Rule 1: nothing starts before everything that the predecessor left unsettled is here again (`doubt`).
Rule 2: a retry never goes back to the server: it waits here, in its lane, and its lease is extended.
Rule 3: what was settled here and comes again (a crashed server forgets acks) is acknowledged again, not run again.
Rule 4: a key's next message starts when the settlement of the one before cannot be forgotten (`records.py`).
Rule 5: once the shard is lost, whatever still runs is nobody's: its outputs and its ack are not sent.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from runner.bindings import Binding
from runner.core import identity
from runner.core.ordering import Ordering
from runner.core.sharding import original, shard_filter
from runner.engine.durables import Durables
from runner.engine.failures import Failures
from runner.engine.fence import Fences, Tenure
from runner.engine.incoming import Incoming
from runner.engine.park import Parking
from runner.engine.pipeline import Pipeline
from runner.engine.process import Process
from runner.engine.records import KEEP_SECONDS, Records
from runner.errors import JetrunnerError
from runner.jetstream import consumer
from runner.jetstream.delivery import Delivery, Source
from runner.jetstream.pull import Pull, clock

log = logging.getLogger("jetrunner.shards")

HELD_LIMIT = 10_000
"""Messages of one shard that may be held back behind others of their key."""
MISSING_SECONDS = 0.2
"""How long the predecessor's messages get to arrive, at most, before the server is asked again."""
RECOUNT_SECONDS = 0.003
"""Pause before the server's figures are read once more, when they counted what was settled before."""
RETRY_SECONDS = 0.1
"""Pause after an answer that did not come."""
EXPIRES_SECONDS = 1.5
"""Shorter than a lease: a frozen owner has no pull left when its shards are taken."""
ACK_WAIT_SECONDS = 60.0
LEASE_SECONDS = 20.0


SENT_BACK = 1 << 62
"""Messages that were sent back are numbered below all others, in their own order: they go before what waits."""


places = itertools.count(-(1 << 63))
"""Numbers of lanes that are held by no message: below those, too."""


class Returned:
    """The source of a message that was sent back, while it has a lane in a shard."""

    abandons = False

    def __init__(self, shard: Shard, source: Source, lane: int) -> None:
        self.unsettled = source.unsettled
        self.limit = source.limit
        self.fences = shard.fences
        self.number = shard.number
        self._shard = shard
        self._source = source
        self._lane = lane

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge, and free the lane."""
        self._source.ack(delivery)
        self._shard.free(self._lane)

    def settle(self, delivery: Delivery, verb: bytes) -> None:
        """Answer, and free the lane."""
        self._source.settle(delivery, verb)
        self._shard.free(self._lane)

    async def again(self, delivery: Delivery, delay: float) -> None:
        """It comes again from the server, and enters its lane then; others of its key do not wait for it."""
        await self._source.again(delivery, delay)
        self._shard.free(self._lane)

    def give_back(self, delivery: Delivery) -> None:
        """Any instance may have it; the one with its shard will."""
        self._source.give_back(delivery)
        self._shard.free(self._lane)


class ShardPull(Pull):
    """A pull whose window grows by what is held back, so that one blocked key does not stall its shard."""

    shard: Shard

    def watch(self, now: float) -> None:
        """Called a few times a second."""
        super().watch(now)
        self.shard.rest(now)

    def room(self) -> int:
        """How many messages may be here."""
        return min(HELD_LIMIT, self.limit + self.shard.ordering.holding)


class Shard:
    """The lanes of one shard. It outlives its ownership: what still runs when it is lost keeps its lane."""

    abandons = False
    """A handler that ignores its timeout keeps its lane until it ends."""

    def __init__(
        self,
        process: Process,
        pipeline: Pipeline,
        binding: Binding,
        stream: str,
        generation: int,
        number: int,
        durables: Durables,
        records: Records,
        parking: Parking,
        key_of: Callable[[bytes], Any],
        start: int = 0,
    ) -> None:
        self.name = f"{binding.function}.{generation}.{number}"
        self.stream = stream
        self.number = number
        self.generation = generation
        self.durable = identity.shard_durable(process.project, binding.function, generation, number)
        self.ordering = Ordering()
        self.owned = False
        """Whether its messages may start here."""
        self.limit = binding.concurrency
        self._connection = process.connection
        self._wire = process.connection.wire
        self._loop = process.loop
        self._pipeline = pipeline
        self._queue = pipeline.queue
        self._durables = durables
        self._records = records
        self._parking = parking
        self._key_of = key_of
        self.failures = Failures(process, binding.function, generation, number)
        self.fences = Fences(process, binding, generation, number)
        """What its outputs go under."""
        self._tasks = process.tasks
        self._opened = asyncio.Event()
        """Set when the barrier opens."""
        self._delivered = 0
        """Consumer sequence of the last delivery that came; a gap means that one was lost on its way."""
        self._epoch = -1
        """The connection that `_delivered` counts on."""
        self._recovering = False
        self._pulling = asyncio.Lock()
        """Held while the pull is opened or closed."""
        self._doubtful = False
        """Something may have been lost since the server was last asked."""
        subject = shard_filter(binding.subject.wildcard, generation, number)
        self._config = consumer.config(
            self.durable, subject, "all", binding.function, ack_wait=ACK_WAIT_SECONDS, start=start
        )
        self.pull = ShardPull(
            process.connection, stream, self.durable, self.limit, self._arrived, self._durable_gone
        )
        self.pull.shard = self
        self.pull.expires = EXPIRES_SECONDS
        self.pull.heartbeat = EXPIRES_SECONDS / 3
        self.pull.lease = LEASE_SECONDS
        self.pull.original = original if generation else None
        self.unsettled = self.pull.unsettled
        self.returned: dict[int, Delivery] = {}
        """Messages that were sent back, by their number in the lanes."""
        self._resting: dict[Any, int] = {}
        """Key → its message that is settled and acked, but keeps its lane: its settlement may be forgotten yet."""
        self._rested: deque[tuple[float, Any, int]] = deque()
        """Since when each of them rests, its key and its sequence."""
        self._unrecorded: set[int] = set()
        """Settlements that something waits for to be on record."""
        self._recorded = asyncio.Event()
        self._turns: dict[int, asyncio.Event] = {}
        """Lanes that are held by no message, by their numbers: set once it is their turn, or the shard is lost."""

    # -- owning -----------------------------------------------------------------------------------------

    async def open(self, tenure: Tenure) -> None:
        """Take the shard over from whoever had it; returns once its messages may start, or it is lost again."""
        known, _, _, _ = await asyncio.gather(
            self._records.load(tenure.claim.before, self.name),
            self.fences.begin(tenure),
            self.failures.load(),
            self._parking.load(self),
        )
        info = await self._durables.ensure(self.stream, self._config)
        if self.fences.tenure is not tenure:
            return
        self.ordering.know(known)
        self.owned = True
        if self.pull not in self._pipeline.pulls:
            self._pipeline.pulls.append(self.pull)
        self.doubt(info)

    def doubt(self, info: dict[str, Any] | None = None) -> None:
        """Start nothing more, ask the server what it holds unsettled, have it delivered anew, and go on in order.

        At the beginning, after our own reconnect, and whenever a delivery may have been lost on its way.
        """
        self.ordering.hold()
        self._doubtful = True
        self._opened.set()
        if not self._recovering:
            self._recovering = True
            self._tasks.start_soon(self._recover, info)

    async def _recover(self, info: dict[str, Any] | None) -> None:
        figures, wait = info, MISSING_SECONDS / 16
        try:
            while self.owned:
                self._doubtful = False
                epoch = self._wire.epoch
                try:
                    if self._resting:
                        await self._record()
                        figures = None
                    if figures is None:
                        figures = await self._info()
                except JetrunnerError as error:
                    log.debug("shard %s cannot be taken up yet: %s", self.durable, error)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                reacked = False
                if epoch == self._wire.epoch and not self._resting:
                    self._opened.clear()
                    reacked = self._take_over(figures, epoch)
                else:
                    self._doubtful = True
                figures = None
                await self._open_pull()
                await self._arrivals(RECOUNT_SECONDS if reacked else wait)
                wait = min(MISSING_SECONDS, wait * 2)
                if not self.ordering.barrier and not self._doubtful:
                    break
        finally:
            self._recovering = False

    async def _arrivals(self, wait: float) -> None:
        """Wait for the barrier to open, as long as something comes every `wait` seconds."""
        awaited = -1
        while self.owned and self.ordering.barrier and not self._doubtful and self.ordering.awaited != awaited:
            awaited = self.ordering.awaited
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._opened.wait()

    def _take_over(self, info: dict[str, Any], epoch: int) -> bool:
        """Whether acks were sent again: the server's figures count what they settle."""
        if not self.owned:
            return False  # it was lost meanwhile
        delivered = info["delivered"]
        recovery = self.ordering.takeover(
            info["ack_floor"]["stream_seq"], delivered["stream_seq"], info["num_ack_pending"]
        )
        # What was delivered since the server looked may be here already.
        number = delivered["consumer_seq"]
        self._delivered = max(self._delivered, number) if epoch == self._epoch else number
        self._epoch = epoch
        # In the predecessor's name: of an ack's subject the server takes the sequence alone (measured).
        for verb, sequences in ((b"+ACK", recovery.reack), (b"-NAK", recovery.nak)):
            for sequence in sequences:
                reply = f"$JS.ACK.{self.stream}.{self.durable}.1.{sequence}.{number}.0.0"
                self._wire.answer(reply.encode(), verb)
        self._start(recovery.start)
        self.pull.ask_again()
        return bool(recovery.reack)

    async def _open_pull(self) -> None:
        async with self._pulling:
            if self.owned and not self.pull.is_open:
                await self.pull.open()

    async def _close_pull(self) -> None:
        async with self._pulling:
            if not self.owned:
                await self.pull.close()

    async def _info(self) -> dict[str, Any]:
        info = await consumer.info(self._connection, self.stream, self.durable)
        return info if info is not None else await self._durables.ensure(self.stream, self._config)

    async def drain(self) -> None:
        """Start nothing more, and return when everything that runs here is settled."""
        self.owned = False
        forgotten = self._forget_waiting()
        await asyncio.gather(self._close_pull(), self._handlers_end())
        await self._record()
        self._let_go([*forgotten, *self.unsettled])

    async def _handlers_end(self) -> None:
        while any(delivery.started for delivery in (*self.unsettled.values(), *self.returned.values())):
            await asyncio.sleep(0.002)

    def lose(self) -> None:
        """Somebody else owns it: stop at once. What runs is cancelled, and what it would send is not sent."""
        log.warning("shard %s is another instance's now", self.durable)
        self.owned = False
        forgotten = self._forget_waiting()
        running = list(self.unsettled.values())
        self._parking.lose(self)
        self._let_go(forgotten)
        for delivery in running:
            if delivery.task is not None:
                delivery.task.cancel()
        self._tasks.start_soon(self._outlast, running)
        self._tasks.start_soon(self._close_pull)

    def _forget_waiting(self) -> list[int]:
        """Forget what has not started; its sequences."""
        queue = self._queue.deliveries
        waiting = {delivery.sequence for delivery in queue if delivery.source is self}
        kept = [delivery for delivery in queue if delivery.source is not self]
        queue.clear()
        queue.extend(kept)
        forgotten = [
            sequence
            for sequence, delivery in self.unsettled.items()
            if sequence in waiting or not delivery.started
        ]
        for sequence in forgotten:
            del self.unsettled[sequence]
        return forgotten

    def _let_go(self, forgotten: list[int]) -> None:
        self.ordering.release()
        forgotten += self._resting.values()
        self._resting.clear()
        self._rested.clear()
        self._unrecorded.clear()
        self._recorded.set()
        for sequence in forgotten:  # of a lane that was theirs but not used
            self.ordering.settle(sequence)
        self.unsettled.clear()
        self.fences.end()
        for delivery in list(self.returned.values()):
            if not delivery.started:
                delivery.source.give_back(delivery)
        self._opened.set()
        for turn in self._turns.values():
            turn.set()
        if self.pull in self._pipeline.pulls:
            self._pipeline.pulls.remove(self.pull)

    async def _outlast(self, running: list[Delivery]) -> None:
        """Free the lanes of handlers that ran when the shard was lost, once they have ended."""
        for delivery in running:
            while delivery.task is not None:
                await asyncio.sleep(0.02)
            self._start(self.ordering.settle(delivery.sequence))

    def _durable_gone(self) -> None:
        if self.owned:
            self._epoch = -1
            self.doubt()

    # -- deliveries -------------------------------------------------------------------------------------

    def _arrived(self, delivery: Delivery) -> None:
        sequence = delivery.sequence
        if not self.owned:
            del self.unsettled[sequence]  # it comes again, to the next owner
            return
        delivery.source = self
        ordering = self.ordering
        number = int(delivery.reply.split(b".", 7)[6])
        if number != self._delivered + 1 or self._epoch != self._wire.epoch:
            self._epoch = self._wire.epoch
            self.doubt()
        self._delivered = number
        key = self._key_of(delivery.subject)
        if sequence <= ordering.top and (ordering.settled(sequence) or self._resting.get(key) == sequence):
            del self.unsettled[sequence]
            self._wire.ack(delivery.reply)
            return
        if delivery.careful:
            # Takeovers and give-backs raise the count, too: the second delivery is not yet suspect.
            delivery.deliveries = delivery.attempt - 1
            delivery.careful = delivery.deliveries > 1
            delivery.attempt = 1
        if self.failures.counts and (failures := self.failures.counts.get(sequence)):
            delivery.attempt = 1 + failures
            delivery.careful = True
        barrier = ordering.barrier
        ready = ordering.arrive(sequence, key)
        if ready:
            self._start(ready)
        elif key in self._resting:
            self._want(self._resting[key])
        if barrier and not ordering.barrier:
            self._opened.set()

    def _start(self, sequences: tuple[int, ...]) -> None:
        if self.owned:
            unsettled, arrive, marks = self.unsettled, self._queue.arrive, self._parking.marks
            for sequence in sequences:
                delivery = unsettled.get(sequence) or self.returned.get(sequence)
                if delivery is None:
                    if (turn := self._turns.get(sequence)) is not None:
                        turn.set()
                elif not marks or delivery.source is not self or not self._turned_away(delivery):
                    arrive(delivery)

    def _turned_away(self, delivery: Delivery) -> bool:
        return self._parking.turns_away(self, self._key_of(delivery.subject), delivery)

    async def park(self, incoming: Incoming) -> None:
        """Returns when the message may be terminated: nothing of its key can overtake it then."""
        await self._parking.park(self, self._key_of(incoming.delivery.subject), incoming)

    def enter(self, key: Any) -> tuple[int, asyncio.Event]:
        """Take a place in a key's lane, before what waits there: its number, and what is set once it is its turn.

        Not behind the barrier, which counts what comes.
        """
        number = next(places)
        turn = self._turns[number] = asyncio.Event()
        self._start(self.ordering.arrive(number, key))
        if key in self._resting:
            self._want(self._resting[key])
        return number, turn

    def leave(self, number: int) -> None:
        """Give such a place up, and let the lane go on."""
        del self._turns[number]
        self._start(self.ordering.settle(number))

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge, and free the lane."""
        if self.unsettled.pop(delivery.sequence, None) is not None:
            self._wire.ack(delivery.reply)
            self._free(delivery.sequence)

    def settle(self, delivery: Delivery, verb: bytes) -> None:
        """Answer once, and free the lane."""
        if not delivery.settled:
            del self.unsettled[delivery.sequence]
            self._wire.answer(delivery.reply, verb)
            self._free(delivery.sequence)

    def free(self, number: int) -> None:
        """A message that was sent back is settled, or comes again later: its lane goes on."""
        self.returned.pop(number, None)
        self._start(self.ordering.settle(number))

    def _free(self, sequence: int) -> None:
        if sequence in self.failures.counts:
            self._tasks.start_soon(self.failures.drop, sequence)
        ordering = self.ordering
        key = ordering.key(sequence)
        if key is None:
            return  # not in a lane of ours
        self._resting[key] = sequence
        self._rested.append((clock(), key, sequence))
        if ordering.followed(key) or ordering.barrier or not self.owned:
            self._want(sequence)
        self.pull.wake()

    def _want(self, sequence: int) -> None:
        if sequence not in self._unrecorded:
            self._unrecorded.add(sequence)
            self._records.want(self, sequence)

    async def _record(self) -> None:
        """Return once everything that was settled here is on record."""
        for sequence in self._resting.values():
            self._want(sequence)
        while self._resting:
            self._recorded.clear()
            await self._recorded.wait()

    def recorded(self, sequences: Sequence[int]) -> None:
        """These settlements are on record: their lanes go on."""
        for sequence in sequences:
            if sequence in self._unrecorded:
                self._unrecorded.discard(sequence)
                self._go_on(self.ordering.key(sequence), sequence)
        self._recorded.set()

    def _go_on(self, key: Any, sequence: int) -> None:
        if self._resting.get(key) == sequence:
            del self._resting[key]
            self._start(self.ordering.settle(sequence))

    def rest(self, now: float) -> None:
        """Called a few times a second: what has rested long enough is not forgotten any more."""
        rested = self._rested
        while rested and now - rested[0][0] >= KEEP_SECONDS:
            _, key, sequence = rested.popleft()
            if sequence not in self._unrecorded:
                self._go_on(key, sequence)
        self._parking.resume(self)

    async def again(self, delivery: Delivery, delay: float) -> None:
        """Count the failure, and run it again here after `delay` seconds; its lane waits."""
        await self.failures.next_attempt(delivery)
        self._loop.call_later(delay, self._start_again, delivery)

    def _start_again(self, delivery: Delivery) -> None:
        """Unless the shard was lost meanwhile; then another delivery of the message may be here."""
        if self.owned and self.unsettled.get(delivery.sequence) is delivery:
            self._queue.arrive(delivery)

    def give_back(self, delivery: Delivery) -> None:
        """It has not started, and will not here: the next owner has it delivered anew."""
        self.unsettled.pop(delivery.sequence, None)

    def take_back(self, delivery: Delivery, subject: bytes) -> bool:
        """Put a message that was sent back into its key's lane, before what waits there; False when that cannot be now."""
        if not self.owned or self.ordering.barrier:
            return False
        number = delivery.sequence - SENT_BACK
        returned = Returned(self, delivery.source, number)
        delivery.source = returned
        self.returned[number] = delivery
        self._start(self.ordering.arrive(number, self._key_of(subject)))
        return True

    def extend(self, delivery: Delivery, now: float) -> None:
        """Keep the server from delivering it again."""
        self.pull.extend(delivery, now)
