"""The lanes of one shard: what arrives, what may start, and what is settled; one message of a key at a time.

Rule 1: a retry never goes back to the server: it waits here, in its lane, and its lease is extended.
Rule 2: what was settled here and comes again (a crashed server forgets acks) is acknowledged again, not run again; unless it
        was stored after all that is known here: then it is another message, and the shard is in doubt.
Rule 3: a key's next message starts when the settlement of the one before cannot be forgotten (`records.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from runner.bindings import Binding
from runner.core.address import Address
from runner.core.history import Identity
from runner.core.ordering import Ordering
from runner.core.shardlife import ShardLife, State
from runner.engine.durables import Durables
from runner.engine.failures import Failures, renew
from runner.engine.fence import Fences
from runner.engine.held import DROPPED, Held
from runner.engine.incoming import Incoming
from runner.engine.newest import Newest
from runner.engine.pipeline import Pipeline
from runner.engine.process import Process
from runner.engine.records import Records
from runner.engine.shardpull import ShardPull
from runner.engine.turns import Turns
from runner.engine.uncommitted import Uncommitted
from runner.jetstream import consumer
from runner.jetstream.delivery import Delivery, newest
from runner.jetstream.reply import consumer_sequence, identity, stored_at
from runner.jetstream.withheld import Withheld

log = logging.getLogger("jetrunner.shards")


class Diversion(Protocol):
    """What keeps messages of some keys from running when their turn comes (`park.py`)."""

    @property
    def marks(self) -> Mapping[bytes, Any]:
        """Such keys; while there are none, `turns_away` is not asked."""

    def turns_away(self, key: bytes, delivery: Delivery) -> bool:
        """Whether a message does not run now; then it is settled otherwise."""

    async def park(self, fences: Fences, key: bytes, incoming: Incoming) -> None:
        """A message of this key was given up; returns once it may be terminated."""

    async def load(self, shard: str, life: ShardLife) -> None:
        """Know all such keys of a shard. Raises JetrunnerError."""

    def lose(self, turns: Turns) -> None:
        """Another instance owns the shard that these are of."""


class Lanes:
    """One shard's lanes; who owns the shard is `Shard`'s business."""

    owned = False
    """Whether its messages may start here: `life.owned`, for the straight way."""
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
        parking: Diversion,
        key_of: Callable[[bytes], Any],
    ) -> None:
        address = Address(process.project, binding.function, stream, generation, number)
        self.name = address.name
        self.stream = stream
        self.number = number
        self.generation = generation
        self.durable = address.durable
        self.ordering = Ordering()
        self.life = ShardLife(State.RELEASED)
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
        self.fences = Fences(process, address, binding.output)
        """What its outputs go under."""
        self.failures = Failures(process, address, self.fences)
        self._tasks = process.tasks
        self._opened = asyncio.Event()
        """Set when the barrier opens."""
        self._delivered = 0
        """Consumer sequence of the last delivery that came; a gap means that one was lost on its way."""
        self._epoch = -1
        """The connection that `_delivered` counts on."""
        self._strays: list[bytes] = []
        """Replies of what came and will not start here, since the shard is not ours any more."""
        self._pulling = asyncio.Lock()
        """Held while the pull is opened or closed."""
        self._config_from = partial(
            consumer.of_shard, process.project, binding.function, binding.subject.wildcard, generation, number
        )
        self.begin_at(0)
        self.pull = ShardPull(
            process.connection, stream, self.durable, self.limit, self._arrived, self._durable_gone
        )
        assert pipeline.guard is not None
        self.pull.belong(self, pipeline.guard)
        self.unsettled = self.pull.unsettled
        self.history = process.histories.of(stream)
        self.newest = Newest(self.pull, self.history)
        self._uncommitted = Uncommitted(records, self.name, self.ordering, self._start, self.newest)
        self.turns = Turns(self.ordering, self._start, self._uncommitted)
        self._delayed: dict[int, float] = {}
        """When a message runs again that waits for its next attempt, by the monotonic clock."""
        self._held = Held(
            process, self.history, self.ordering, self.unsettled, self._start, self.ack, self.mistake
        )
        self._isolation = process.isolation
        self._told = Withheld(self._wire)
        self.withhold = self._told.begin
        """Settle without a word to the server: the next takeover tells it."""
        self.history.add(self)

    def begin_at(self, start: int) -> None:
        """The first sequence of the stream that its durable shall ever read; 0: all."""
        self._config = self._config_from(start)

    @property
    def answering(self) -> bool:
        """Whether what was left here is being asked for: nothing new meanwhile, it would take the room."""
        return self.life.state is State.CALLING

    def doubt(self) -> None:
        """Start nothing more before the server was asked what it holds."""
        raise NotImplementedError

    def cut(self, first: int, known: Identity) -> None:
        """Forget what others have the numbers of by now."""
        raise NotImplementedError

    # -- the stream's history ---------------------------------------------------------------------------

    def arrived(self) -> Identity:
        """The newest message that is here."""
        return newest(self.unsettled)

    def silence(self) -> None:
        """The connection is lost: what was made here is neither settled nor stored before the stream was found to be the same."""
        self.withhold()
        self.fences.pause()

    def confirm(self) -> None:
        """The stream is the same; what the server holds unsettled is to be asked."""
        self.fences.resume()
        self.doubt()

    def mistake(self, delivery: Delivery) -> None:
        """The stream has another message under the number of one that is here."""
        self.history.doubt(identity(delivery.reply))
        self.doubt()

    def _durable_gone(self) -> None:
        if self.owned:
            self._epoch = -1
            self.doubt()

    # -- deliveries -------------------------------------------------------------------------------------

    def _arrived(self, delivery: Delivery) -> None:
        sequence = delivery.sequence
        if not self.owned:
            del self.unsettled[sequence]
            self._strays.append(delivery.reply)
            return
        delivery.source = self
        ordering = self.ordering
        number = consumer_sequence(delivery.reply)
        if number != self._delivered + 1 or self._epoch != self._wire.epoch:
            self._epoch = self._wire.epoch
            self.doubt()
        self._delivered = number
        key = self._key_of(delivery.subject)
        if sequence <= ordering.top and ordering.settled(sequence):
            del self.unsettled[sequence]
            if self.newest.before(delivery):
                self.doubt()  # it comes again when more is known
            else:
                self._told.ack(delivery.reply)
            return
        if delivery.careful:
            # Takeovers and give-backs raise the count, too: the second delivery is not yet suspect.
            delivery.deliveries = delivery.attempt - 1
            delivery.careful = delivery.deliveries > 1
            delivery.attempt = 1
        if self.failures.known and (failed := self.failures.of(sequence, stored_at(delivery.reply))):
            delivery.attempt = 1 + failed.count
            delivery.careful = True
        barrier = ordering.barrier
        ready = ordering.arrive(sequence, key)
        if ready:
            self._start(ready)
        else:
            self._held.add(delivery)
            self._uncommitted.hurry()
        if not ordering.barrier:
            if barrier:
                self.newest.note(self.unsettled)
                self._opened.set()
            elif sequence >= ordering.top:
                self.pull.newest_reply = delivery.reply

    def arrive_next(self, delivery: Delivery) -> None:
        """The straight way of `_arrived`: the consumer's next delivery, of a message that was never delivered before."""
        self._delivered += 1
        ready = self.ordering.arrive(delivery.sequence, self._key_of(delivery.subject))
        if not ready:
            self._held.add(delivery)
            self._uncommitted.hurry()
        elif self._parking.marks:
            self._start(ready)
        else:
            self._queue.arrive(delivery)

    def expects(self, sequence: int, number: int) -> bool:
        """Whether a delivery of that stream and consumer sequence may go the straight way."""
        return (
            number == self._delivered + 1
            and sequence > self.ordering.top
            and self.owned
            and self._epoch == self._wire.epoch
            and not self.failures.known
        )

    def _start(self, sequences: Sequence[int]) -> None:
        if self.owned:
            unsettled, arrive, marks = self.unsettled, self._queue.arrive, self._parking.marks
            failures = self.failures.known
            for sequence in sequences:
                delivery = unsettled.get(sequence)
                if delivery is None:
                    self.turns.begin(sequence)
                elif delivery.body is DROPPED:
                    self._held.bring(delivery)
                elif (
                    not marks or not self._parking.turns_away(self._key_of(delivery.subject), delivery)
                ) and (not failures or not self._rests(delivery)):
                    arrive(delivery)

    def _rests(self, delivery: Delivery) -> bool:
        """Whether a message has failed at an earlier owner, and waits here for the time of its next attempt."""
        failed = self.failures.of(delivery.sequence, stored_at(delivery.reply))
        rest = failed.rest(self._connection.clock.now()) if failed is not None else 0.0
        if rest > 0:
            self._delay(delivery, rest)
        return rest > 0

    def _delay(self, delivery: Delivery, seconds: float) -> None:
        self._delayed[delivery.sequence] = time.monotonic() + seconds
        self._loop.call_later(seconds, self._start_again, delivery)

    @property
    def delayed(self) -> int:
        """How many messages wait here for their next attempt."""
        return sum(sequence in self.unsettled for sequence in self._delayed)

    def is_delayed(self, delivery: Delivery) -> bool:
        """Whether a message waits for its next attempt."""
        return time.monotonic() <= self._delayed.get(delivery.sequence, 0.0) + 1.0

    async def park(self, incoming: Incoming) -> None:
        """Returns when the message may be terminated: nothing of its key can overtake it then."""
        await self._parking.park(self.fences, self._key_of(incoming.delivery.subject), incoming)

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge, and free the lane; unless it is nobody's by now: then another message may have its number."""
        sequence = delivery.sequence
        if self.unsettled.get(sequence) is delivery:
            del self.unsettled[sequence]
            self._told.ack(delivery.reply)
            self._free(sequence)

    def settle(self, delivery: Delivery, verb: bytes) -> None:
        """Answer once, and free the lane."""
        if not delivery.settled:
            del self.unsettled[delivery.sequence]
            self._told.answer(delivery.reply, verb)
            self._free(delivery.sequence)

    def _free(self, sequence: int) -> None:
        if self.failures.known and sequence in self.failures.known:
            self._tasks.start_soon(self.failures.drop, sequence)
        uncommitted, pull = self._uncommitted, self.pull
        if self.ordering.settle(sequence):
            uncommitted.hurry()
        elif not uncommitted.wanted:
            uncommitted.want()
        if not pull.due:
            pull.wake()

    def rest(self, now: float) -> None:
        """Called a few times a second."""
        self._uncommitted.doubtful(now)

    async def again(self, delivery: Delivery, delay: float) -> None:
        """Count the failure, and run it again here after `delay` seconds; its lane waits."""
        rest = await self.failures.next_attempt(delivery, delay)
        if rest is not None:
            self._delay(delivery, rest)

    def later(self, delivery: Delivery, delay: float) -> None:
        """Run it here after `delay` seconds, though nothing failed; its lane waits."""
        renew(delivery)
        self._delay(delivery, delay)

    def _start_again(self, delivery: Delivery) -> None:
        """Unless the shard was lost meanwhile; then another delivery of the message may be here."""
        self._delayed.pop(delivery.sequence, None)
        if self.owned and self.unsettled.get(delivery.sequence) is delivery:
            self._queue.arrive(delivery)

    def give_back(self, delivery: Delivery) -> None:
        """It has not started, and will not here: the next owner has it delivered anew."""
        if self.unsettled.pop(delivery.sequence, None) is not None:
            self._strays.append(delivery.reply)

    def extend(self, delivery: Delivery, now: float) -> None:
        """Keep the server from delivering it again."""
        self.pull.extend(delivery, now)
