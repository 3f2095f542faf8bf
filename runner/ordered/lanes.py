"""The lanes of one shard: what arrives, what may start, and what is settled; one message of a key at a time.

Rule 1: a retry never goes back to the server: it waits here, in its lane, and its ack wait is extended.
Rule 2: a message that was settled here and comes again (a crashed server forgets acks) is acknowledged again, not run again. But if
        it was stored later than all messages known here, it is another message, and the shard is in doubt.
Rule 3: a key's next message starts when the settlement of the one before cannot be forgotten (`settlement_log.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.core.address import Address
from runner.core.ordering import Ordering, Recovery
from runner.jetstream.delivery import Delivery
from runner.jetstream.reply import consumer_sequence, identity
from runner.jetstream.withheld import Withheld
from runner.ordered.batches import before_queue, noticing
from runner.ordered.failures import Failures, renew
from runner.ordered.newest import Newest
from runner.ordered.pull import ShardPull
from runner.ordered.rests import Rests
from runner.ordered.shared import Shared
from runner.ordered.spill import SPILLED, Spill
from runner.ordered.turns import Turns
from runner.ordered.uncommitted import Uncommitted
from runner.ordered.unowned import Unowned
from runner.pipeline.fence import Fences
from runner.pipeline.message import Incoming


class Lanes:
    """One shard's lanes, and the source of the messages in them. `Shard` knows who owns the shard."""

    abandons = False
    """A handler that ignores its timeout keeps its lane until it ends."""

    def __init__(
        self, shared: Shared, address: Address, fences: Fences, limit: int, doubt: Callable[[], None]
    ) -> None:
        """`doubt` is called when deliveries or acks may have been lost: then nothing starts before the server was asked."""
        runtime = shared.runtime
        self.name = address.name
        self.generation = address.generation
        self.number = address.number
        self.limit = limit
        self.fences = fences
        """The fences that protect the outputs of its messages."""
        self.doubt = doubt
        self.owned = False
        """Whether its messages may start here."""
        self.answering = False
        """Whether missing messages are being asked for; no new ones are asked for meanwhile, since they would take the room."""
        self.opened = asyncio.Event()
        """Set when the barrier opens."""
        self.unowned = Unowned(runtime.connection)
        self.ordering = Ordering()
        self.failures = Failures(runtime, address, fences)
        self.pull = ShardPull(
            runtime.connection, address.stream, address.durable, limit, self._arrived, self._durable_gone
        )
        self.pull.belong(self, shared.guard)
        self.unsettled, self.extend = self.pull.unsettled, self.pull.extend
        self.newest = Newest(self.pull, shared.history)
        self._wire, self._tasks = runtime.connection.wire, runtime.tasks
        self.batches = before_queue(shared, self.ordering, self.unsettled, self._start)
        self._history = shared.history
        self._parking = shared.parking
        self.key_of = shared.key_of
        self._delivered = 0
        """Consumer sequence of the last delivery that came; a gap means that a delivery was lost on its way."""
        self._epoch = -1
        """The connection that `_delivered` belongs to."""
        self.rests = Rests(runtime, self.failures, self.unsettled, self._run_again)
        self._uncommitted = Uncommitted(shared.log, self.name, self.ordering, self._start, self.newest)
        self.record = self._uncommitted.record
        """Returns once everything that was settled here is on record."""
        self.turns = Turns(self.ordering, self._start, self._uncommitted)
        self._spill = Spill(
            runtime, shared.history, self.ordering, self.unsettled, self._start, self.ack, self.mistake
        )
        self._waits = noticing(self.batches, self._spill, self.pull.wake)
        self._told = Withheld(self._wire)
        self.withhold = self._told.begin
        """Settle without sending acks; the next takeover sends them."""

    # -- what the shard's owner does with them ----------------------------------------------------------

    def made_at(self, created: str) -> str:
        """Set when the stream was made; returns the name under which settlements of its messages are recorded."""
        self.newest.made = created
        name = self._uncommitted.name = f"{self.name}@{created}"
        return name

    def hold(self) -> None:
        """Start nothing, and send no acks, until `take_over`."""
        self.ordering.hold()
        self.withhold()
        self.opened.set()

    def take_over(self, figures: Mapping[str, Any], epoch: int) -> Recovery:
        """Continue from what the server has just said of unsettled messages; returns what is left to be done."""
        self._told.drop()  # acks that were kept back are sent again with all others
        floor, delivered = figures["ack_floor"]["stream_seq"], figures["delivered"]
        recovery = self.ordering.takeover(floor, delivered["stream_seq"], figures["num_ack_pending"])
        self.failures.forget_below(floor)
        # What was delivered since the server looked may be here already.
        number = delivered["consumer_seq"]
        self._delivered = max(self._delivered, number) if epoch == self._epoch else number
        self._epoch = epoch
        self.settle_again(recovery.reack)
        if not self.ordering.barrier:
            self.newest.note(self.unsettled)
        self._start(recovery.start)
        return recovery

    def settle_again(self, sequences: Sequence[int]) -> None:
        """These messages are acknowledged once more, and recorded: the server has forgotten their acks, and may forget them again."""
        self.ordering.settle_again(sequences)
        self._uncommitted.request_commit()

    def forget_waiting(self) -> list[int]:
        """Forget the messages that have not started; returns their sequences."""
        queued = self.batches.forget(self)
        forgotten = [each for each, known in self.unsettled.items() if each in queued or not known.started]
        for sequence in forgotten:
            self.unowned.add(self.unsettled.pop(sequence).reply)
        return forgotten

    def cut(self, first: int) -> list[Delivery]:
        """Forget all messages, since the stream has others from this sequence on; returns those that run."""
        forgotten = self.forget_waiting()
        running = list(self.unsettled.values())
        self.unsettled.clear()
        self.ordering.cut(0, forgotten)
        self._uncommitted.end()
        self.unowned.cut(first)
        self.newest.forget()
        return running

    def let_go(self, forgotten: list[int]) -> None:
        """The shard is no longer ours. A running message keeps its lane until its handler has ended (`Turns.outlasted`)."""
        self.ordering.release(forgotten)
        self._uncommitted.end()
        self.unsettled.clear()
        self.opened.set()

    def mistake(self, delivery: Delivery) -> None:
        """The stream has another message with the sequence of this one."""
        self._history.doubt(identity(delivery.reply))
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
            self.unowned.add(delivery.reply)
            return
        delivery.source = self
        ordering = self.ordering
        number = consumer_sequence(delivery.reply)
        if number != self._delivered + 1 or self._epoch != self._wire.epoch:
            self._epoch = self._wire.epoch
            self.doubt()
        self._delivered = number
        key = self.key_of(delivery.subject)
        if sequence <= ordering.top and ordering.settled(sequence):
            del self.unsettled[sequence]
            if self.newest.before(delivery):
                self.doubt()  # it comes again once the server was asked
            else:
                self._told.ack(delivery.reply)
            return
        self.failures.count(delivery)
        barrier = ordering.barrier
        ready = ordering.arrive(sequence, key)
        if ready:
            self._start(ready)
        else:
            self._waits(delivery)
            self._uncommitted.request_commit()
        if not ordering.barrier:
            if barrier:
                self.newest.note(self.unsettled)
                self.opened.set()
            elif sequence >= ordering.top:
                self.pull.newest_reply = delivery.reply

    def arrive_next(
        self, subject: bytes, reply: bytes, header: bytes | None, body: bytes, sequence: int, number: int
    ) -> bool:
        """Take a message's first delivery the short way; False in a rare case, or if it is not the consumer's next delivery."""
        ordering = self.ordering
        if (
            number != self._delivered + 1
            or sequence <= ordering.top
            or not self.owned
            or self._epoch != self._wire.epoch
            or self.failures.known
        ):
            return False
        self._delivered = number
        delivery = Delivery(subject, reply, header, body, sequence, 1, self, False)
        self.unsettled[sequence] = delivery
        ready = ordering.arrive(sequence, self.key_of(subject))
        if not ready:
            self._waits(delivery)
            self._uncommitted.request_commit()
        elif self._parking.marks:
            self._start(ready)
        else:
            self.batches.arrive(delivery)
        return True

    def _start(self, sequences: Sequence[int]) -> None:
        if self.owned:
            unsettled, arrive, marks = self.unsettled, self.batches.arrive, self._parking.marks
            failures = self.failures.known
            for sequence in sequences:
                delivery = unsettled.get(sequence)
                if delivery is None:
                    self.turns.begin(sequence)
                elif delivery.body is SPILLED:
                    if not failures or not self.rests.needs(delivery):  # else it is fetched after that
                        self._spill.restore(delivery)
                elif (
                    not marks or not self._parking.turns_away(self.key_of(delivery.subject), delivery)
                ) and (not failures or not self.rests.needs(delivery)):
                    arrive(delivery)

    async def park(self, incoming: Incoming) -> None:
        """Return when the message may be terminated: then no message of its key can overtake it."""
        await self._parking.park(self.fences, self.key_of(incoming.delivery.subject), incoming)

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge a message, and free its lane; not if it is no longer ours: then its sequence may be another message's."""
        sequence = delivery.sequence
        if self.unsettled.get(sequence) is delivery:
            del self.unsettled[sequence]
            self._told.ack(delivery.reply)
            if self.failures.known:
                self._forget_failures(sequence)
            if self.ordering.settle(sequence):
                self._uncommitted.request_commit()
            elif not self._uncommitted.wanted:
                self._uncommitted.enqueue()
            if not self.pull.due:
                self.pull.wake()

    def settle(self, delivery: Delivery, verb: bytes) -> None:
        """Answer a message once, and free its lane."""
        if not delivery.settled:
            del self.unsettled[delivery.sequence]
            self._told.answer(delivery.reply, verb)
            self._forget_failures(delivery.sequence)
            if self.ordering.settle(delivery.sequence):
                self._uncommitted.request_commit()
            elif not self._uncommitted.wanted:
                self._uncommitted.enqueue()
            self.pull.wake()

    def _forget_failures(self, sequence: int) -> None:
        if sequence in self.failures.known:
            self._tasks.start_soon(self.failures.drop, sequence)

    def rest(self, now: float) -> None:
        """Note whether the shard is in doubt; called a few times a second."""
        self._uncommitted.doubtful(now)

    async def again(self, delivery: Delivery, delay: float) -> None:
        """Count the failure, and run the message again here after `delay` seconds; its lane waits."""
        rest = await self.failures.next_attempt(delivery, delay)
        if rest is not None:
            self.rests.add(delivery, rest)

    def later(self, delivery: Delivery, delay: float) -> None:
        """Run the message here after `delay` seconds, though nothing failed; its lane waits."""
        renew(delivery)
        self.rests.add(delivery, delay)

    def _run_again(self, delivery: Delivery) -> None:
        if delivery.body is SPILLED:
            self._start((delivery.sequence,))
        elif self.owned:
            self.batches.arrive(delivery)

    def give_back(self, delivery: Delivery) -> None:
        """Give back a message that will not start here: the server delivers it to the next owner."""
        if self.unsettled.pop(delivery.sequence, None) is not None:
            self.unowned.add(delivery.reply)
