"""One shard of one ordered function: taken over, in doubt, drained, lost.

Rule 1: nothing starts before everything that the predecessor left unsettled is here again (`doubt`).
Rule 2: once the shard is lost, whatever still runs is nobody's: its outputs and its ack are not sent.
Rule 3: in doubt, nothing is acknowledged before the stream was found to be the same: the number may be another message's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from runner.core.history import Identity
from runner.core.history import State as StreamState
from runner.core.shardlife import Action, Event, ShardLife, State
from runner.engine.fence import Tenure
from runner.engine.floored import Floored
from runner.errors import JetrunnerError, PermissionDenied
from runner.jetstream import consumer
from runner.jetstream.delivery import Delivery
from runner.jetstream.pull import BACKLOG_BYTES
from runner.jetstream.reply import stream_sequence

log = logging.getLogger("jetrunner.shards")

MISSING_SECONDS = 0.2
"""How long the predecessor's messages get to arrive, at most, before the server is asked again."""
RECOUNT_SECONDS = 0.003
"""Pause before the server's figures are read once more, when they counted what was settled before."""
AT_ONCE = 2_000
"""Messages that the server is asked to deliver again in one turn of the loop: about a millisecond."""
PAUSE_SECONDS = 0.002
LONG_OPENING_SECONDS = 1.0
"""When it took longer than this to open a shard, its claim is confirmed once more: the bucket may have lost it meanwhile."""
RETRY_SECONDS = 0.1
"""Pause after an answer that did not come."""
LONGEST_RETRY_SECONDS = 1.6
"""The same when a shard is handed over: each is twice as long as the one before, up to this."""


class Shard(Floored):
    """A shard and its lanes. It outlives its ownership: what still runs when it is lost keeps its lane."""

    def mark(self) -> tuple[object, ...]:
        """What changes whenever something moves here."""
        return self.ordering.top, self.ordering.awaited, len(self.unsettled), min(self.unsettled, default=0)

    def is_queued(self, delivery: Delivery) -> bool:
        """Whether a message waits for a slot."""
        return delivery in self._queue.deliveries

    async def open(self, tenure: Tenure) -> None:
        """Take the shard over from whoever had it; returns once its messages may start, or it is lost again."""
        self.life = life = ShardLife()  # at once: whatever ends it from now on is seen below
        self.fences.begin(tenure)
        era, epoch, began = self.history.era, self._wire.epoch, time.monotonic()
        now, records, info, _, _, _ = await asyncio.gather(
            self.history.check(),
            self._records.load(tenure.claim.before),
            self._durables.ensure(self.stream, self._config),
            self.fences.stand(),
            self.failures.load(),
            self._parking.load(self.name, life),
        )
        if life.state is not State.TAKING or not (
            time.monotonic() - began < LONG_OPENING_SECONDS or await tenure.lasts()
        ):
            return
        self._made_at(now.created)
        self.pending = info["num_pending"]
        self._strays.clear()
        self._remembered = (0, 0, 0)  # by the last tenure; its floor was another's to raise meanwhile
        for record in records:
            self.ordering.know(record.get(self._uncommitted.name, ()))
        if self.pull not in self._pipeline.pulls:
            self._pipeline.pulls.append(self.pull)
        fresh = era == self.history.era and epoch == self._wire.epoch
        self._happens(Event.LOADED, info if fresh else None)

    def doubt(self) -> None:
        """Start nothing more, ask the server what it holds unsettled, have it delivered anew, and go on in order.

        After our own reconnect, and whenever a delivery may have been lost on its way. A shard that is not owned has no doubts.
        """
        self._happens(Event.DOUBT)

    def _happens(self, event: Event, figures: dict[str, Any] | None = None) -> None:
        life = self.life
        actions = life.happens(event)
        self.owned = life.owned
        if Action.HOLD in actions:
            self.ordering.hold()
            self.withhold()
            self._opened.set()
        if Action.RECOVER in actions:
            self._tasks.start_soon(self._recover, life, figures)

    async def _recover(self, life: ShardLife, figures: dict[str, Any] | None) -> None:
        """Ask the server until nothing is missing; `figures` is what it said of the durable just now."""
        wait = MISSING_SECONDS / 16
        while life.recovering:
            life.happens(Event.ASK)
            epoch = self._wire.epoch
            try:
                if self.ordering.uncommitted:
                    await self._uncommitted.record()
                    figures = None
                if figures is None:
                    figures, now = await asyncio.gather(self._info(), self._stream())
                    if now is not None and figures["delivered"]["stream_seq"] > now.last:
                        figures = await self._durables.ensure(self.stream, self._config)
            except JetrunnerError as error:
                log.debug("shard %s cannot be taken up yet: %s", self.durable, error)
                figures = None  # they may be of before the error
                await asyncio.sleep(RETRY_SECONDS)
                life.happens(Event.LATE)
                continue
            if epoch != self._wire.epoch or not self.history.confirmed or self.ordering.uncommitted:
                life.happens(Event.LATE)
            if life is self.life:
                self._opened.clear()
            reacked = life.state is State.ASKING and await self._take_over(life, figures, epoch)
            figures = None
            await self._turn_pull()
            await self._arrivals(life, RECOUNT_SECONDS if reacked else wait)
            wait = min(MISSING_SECONDS, wait * 2)
            life.happens(Event.LATE if self.ordering.barrier else Event.COMPLETE)

    async def _stream(self) -> StreamState | None:
        """How the stream is; None where the credentials do not allow to look any more: the history has told of that."""
        try:
            now = await self.history.check()
        except PermissionDenied:
            return None
        self._made_at(now.created)
        return now

    def _made_at(self, created: str) -> None:
        self.newest.made = created
        self._uncommitted.name = f"{self.name}@{created}"

    def cut(self, first: int, known: Identity) -> None:
        """From this sequence on the stream has other messages than those that are known here: forget them.

        So is all that was settled or runs here: the stream's consumers went back with it, and so may the outputs have. What
        they take for unsettled runs again, in order, each key once its handler of before has ended.
        """
        forgotten = self._forget_waiting(0)
        running = list(self.unsettled.values())
        self.unsettled.clear()
        self.ordering.cut(0, forgotten)
        self._uncommitted.end()
        self._strays = [reply for reply in self._strays if stream_sequence(reply) < first]
        self.newest.forget()
        self.fences.forget_waiting()
        for sequence in [each for each in self.failures.known if each >= first]:
            self._tasks.start_soon(self.failures.drop, sequence)
        self._leave(running)
        self.confirm()  # what comes from here on is kept, and the server is asked anew what it has delivered

    async def _arrivals(self, life: ShardLife, wait: float) -> None:
        """Wait for the barrier to open, as long as something comes every `wait` seconds."""
        awaited = -1
        while life.state is State.AWAITING and self.ordering.barrier and self.ordering.awaited != awaited:
            awaited = self.ordering.awaited
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._opened.wait()

    async def _take_over(self, life: ShardLife, info: dict[str, Any], epoch: int) -> bool:
        """Whether acks were sent again: the server's figures count what they settle."""
        life.happens(Event.TOLD)
        self._told.end()  # what was kept back is acknowledged again with everything else
        floor, delivered = info["ack_floor"]["stream_seq"], info["delivered"]
        recovery = self.ordering.takeover(floor, delivered["stream_seq"], info["num_ack_pending"])
        self.failures.forget_below(floor)
        # What was delivered since the server looked may be here already.
        number = delivered["consumer_seq"]
        self._delivered = max(self._delivered, number) if epoch == self._epoch else number
        self._epoch = epoch
        self._answer(b"+ACK", recovery.reack, number)
        if not self.ordering.barrier:
            self.newest.note(self.unsettled)
        self._start(recovery.start)
        await self._ask_for(life, recovery.nak, number)
        return bool(recovery.reack)

    async def _ask_for(self, life: ShardLife, sequences: range, number: int) -> None:
        """Have delivered again what is missing of these: millions, where other shards' messages stand in between."""
        epoch = self._wire.epoch
        try:
            for begin in range(sequences.start, sequences.stop, AT_ONCE):
                part = sequences[begin - sequences.start :][:AT_ONCE]
                self._answer(b"-NAK", self.ordering.missing(part), number)
                await asyncio.sleep(0)
                while self._wire.backlog > BACKLOG_BYTES and epoch == self._wire.epoch:
                    await asyncio.sleep(PAUSE_SECONDS)
                if life.state is not State.CALLING or not self.ordering.barrier or epoch != self._wire.epoch:
                    return
        finally:
            life.happens(Event.CALLED)
            self.pull.ask_again()

    def _answer(self, verb: bytes, sequences: Sequence[int], number: int) -> None:
        """In the predecessor's name: of an ack's subject the server takes the sequence alone (measured)."""
        if verb == b"+ACK":  # on record once more: what the server forgot before, it may forget again
            self.ordering.settle_again(sequences)
            self._uncommitted.hurry()
        for sequence in sequences:
            reply = f"$JS.ACK.{self.stream}.{self.durable}.1.{sequence}.{number}.0.0"
            self._wire.answer(reply.encode(), verb)

    async def _turn_pull(self) -> None:
        """It is open while the shard is owned."""
        async with self._pulling:
            if self.owned != self.pull.is_open:
                await (self.pull.open if self.owned else self.pull.close)()

    async def _info(self) -> dict[str, Any]:
        info = await consumer.info(self._connection, self.stream, self.durable)
        return info if info is not None else await self._durables.ensure(self.stream, self._config)

    async def drain(self) -> None:
        """Start nothing more, and return when everything that runs here is settled, and what was is on record."""
        self._happens(Event.DRAIN)
        forgotten = self._forget_waiting()
        self.turns.give_back()
        await asyncio.gather(self._turn_pull(), self._handlers_end())
        await asyncio.gather(self._ack_again(), self._uncommitted.record())
        await self._uncommitted.record()
        self._let_go([*forgotten, *self.unsettled])

    async def _ack_again(self) -> None:
        """The next owner runs what the server takes for unsettled: acks may have been lost with a server or on their way.

        The server is asked until it answers: only the end of the process, or of the tenure, comes before that.
        """
        tenure, wait = self.fences.tenure, RETRY_SECONDS
        while self.fences.tenure is tenure and self.ordering.settled_any:
            try:
                info = await consumer.info(self._connection, self.stream, self.durable)
                created = (await self.history.check()).created if info is not None else ""
            except JetrunnerError as error:
                warns = wait < LONGEST_RETRY_SECONDS <= wait * 2
                log.log(
                    logging.WARNING if warns else logging.DEBUG,
                    "shard %s is not handed over before its acks are counted: %s", self.durable, error,
                )  # fmt: skip
                await asyncio.sleep(wait)
                wait = min(LONGEST_RETRY_SECONDS, wait * 2)
                continue
            if info is not None and created == self.newest.made:
                floor, delivered = info["ack_floor"], info["delivered"]
                done = self.ordering.done(floor["stream_seq"], delivered["stream_seq"])
                self._answer(b"+ACK", done, delivered["consumer_seq"])
                self._wire.flush()
                if not self.pull.guard.lasts(time.monotonic()):  # then nothing is written
                    await asyncio.sleep(wait)
                    continue
            return

    async def _handlers_end(self) -> None:
        turns = self.turns
        while any(delivery.started for delivery in (*self.unsettled.values(), *turns.replayed.values())):
            await asyncio.sleep(0.002)

    def lose(self) -> None:
        """Somebody else owns it: stop at once. What runs is cancelled, but for threads; what it would send is not sent."""
        log.warning("shard %s is another instance's now", self.durable)
        self._happens(Event.LET_GO)
        forgotten = self._forget_waiting()
        running = list(self.unsettled.values())
        self._parking.lose(self.turns)
        self._let_go(forgotten)
        self._leave(running)
        self._tasks.start_soon(self._retreat)

    def _leave(self, running: list[Delivery]) -> None:
        """Cancel handlers whose messages are not ours to settle any more; their lanes are free once they have ended.

        A cancelled thread would run on, with its slot and its lane free: it is left to end.
        """
        self._isolation.abandon(running)
        self._tasks.start_soon(self._outlast, running)
        for delivery in running:
            if delivery.task is not None and not self._pipeline.calling.threaded:
                delivery.task.cancel()

    async def _retreat(self) -> None:
        await self._turn_pull()
        if not self.owned:
            self.send_back()

    def send_back(self) -> None:
        """Return what was delivered here after another had taken the shard over: it cannot know of that, and waits."""
        strays, self._strays = self._strays, []
        for reply in strays:
            self._wire.answer(reply, b"-NAK")

    def _forget_waiting(self, first: int = 0) -> list[int]:
        """Forget what has not started, from a sequence on; its sequences."""
        queue = self._queue.deliveries
        waiting = {each.sequence for each in queue if each.source is self and each.sequence >= first}
        kept = [each for each in queue if each.source is not self or each.sequence < first]
        queue.clear()
        queue.extend(kept)
        forgotten = [
            sequence
            for sequence, delivery in self.unsettled.items()
            if sequence >= first and (sequence in waiting or not delivery.started)
        ]
        for sequence in forgotten:
            self._strays.append(self.unsettled.pop(sequence).reply)
        return forgotten

    def _let_go(self, forgotten: list[int]) -> None:
        self._happens(Event.LET_GO)
        self.ordering.release(forgotten)
        self._uncommitted.end()
        self.unsettled.clear()
        self.fences.end()
        self.turns.end()
        self._opened.set()
        if self.pull in self._pipeline.pulls:
            self._pipeline.pulls.remove(self.pull)

    async def _outlast(self, running: list[Delivery]) -> None:
        """Free the lanes of handlers that ran when the shard was lost, each once it has ended."""
        while running:
            for delivery in running:
                if delivery.task is None:
                    self._start(self.ordering.outlasted(delivery.sequence, self._key_of(delivery.subject)))
            running = [delivery for delivery in running if delivery.task is not None]
            await asyncio.sleep(0.02)
