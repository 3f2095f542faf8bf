"""One shard of one ordered function: taken over, in doubt, drained, lost.

Rule 1: nothing starts before everything that the predecessor left unsettled is here again (`takeover.py`).
Rule 2: once the shard is lost, running handlers do not count: their outputs and acks are not sent.
Rule 3: in doubt, no message is acknowledged before the stream is known to be the same: its number may belong to another message
        now.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from msgspec import Struct

from runner.core.address import Address
from runner.core.history import Identity
from runner.core.shardlife import Action, ShardEvent, ShardLife, ShardState
from runner.jetstream.concurrent import gather
from runner.jetstream.delivery import Delivery, newest
from runner.ordered.durable import ShardDurable
from runner.ordered.handover import Handover
from runner.ordered.lanes import Lanes
from runner.ordered.savedfloor import SavedFloor
from runner.ordered.shared import Shared
from runner.ordered.takeover import Recovering
from runner.pipeline.fence import Fences, ShardOwnership

log = logging.getLogger("jetrunner.shards")

LONG_OPENING_SECONDS = 1.0
"""When it took longer than this to open a shard, its claim is confirmed once more: the bucket may have lost it meanwhile."""
ENDED_SECONDS = 0.02
"""Pause between two checks whether a handler has ended."""


class TakenShard(Struct, frozen=True):
    """How a shard was taken over from its previous owner."""

    since: int
    """When it was claimed, in nanoseconds of Unix time."""
    before: str
    left: int
    """Messages that its owner before had not settled."""


class Shard:
    """A shard and its parts. The object outlives the ownership: a message that still runs when the shard is lost keeps its lane."""

    def __init__(self, shared: Shared, address: Address, limit: int) -> None:
        """At most `limit` messages of the shard are here at once, not counting those that wait behind others of their key."""
        self.name = address.name
        self.life = ShardLife(ShardState.RELEASED)
        """The shard's life since the last claim."""
        self.durable = ShardDurable(shared, address)
        self.lanes = Lanes(
            shared,
            address,
            Fences(shared.runtime, address, shared.pipeline.binding.output),
            limit,
            self.doubt,
        )
        self.floor = SavedFloor(shared, self.durable, self.lanes)
        self._recovering = Recovering(shared, self.durable, self.lanes, self._happens)
        self._taken: TakenShard | None = None
        """How the shard was taken over; None once it is open."""
        self._handover = Handover(shared, self.durable, self.lanes)
        self._shared = shared
        self._wire = shared.runtime.connection.wire
        self._tasks = shared.runtime.tasks
        shared.history.add(self)

    # -- its life ---------------------------------------------------------------------------------------

    async def open(self, ownership: ShardOwnership) -> None:
        """Take the shard over from its previous owner; returns once its unsettled messages are asked for, or the shard is lost again."""
        self.life = life = ShardLife()  # at once: whatever ends it from now on is seen below
        shared, lanes = self._shared, self.lanes
        claimed = time.time_ns()
        lanes.fences.begin(ownership)
        era, epoch, began = shared.history.era, self._wire.epoch, time.monotonic()
        (now, records), (info, _) = await gather(
            gather(shared.history.check(), shared.log.load(ownership.claim.before)),
            gather(
                self.durable.ensure(),
                gather(lanes.fences.stand(), lanes.failures.load(), shared.parking.load(self.name, life)),
            ),
        )
        if life.state is not ShardState.TAKING or not (
            time.monotonic() - began < LONG_OPENING_SECONDS or await ownership.lasts()
        ):
            return
        self.floor.begin(info["num_pending"])
        lanes.unowned.clear()
        name = lanes.made_at(now.created)
        for record in records:  # the settlements of earlier owners
            lanes.ordering.know(record.get(name, ()))
        if lanes.pull not in shared.pipeline.pulls:
            shared.pipeline.pulls.append(lanes.pull)
        if before := next(iter(ownership.claim.before), ""):
            self._taken = TakenShard(claimed, before, info["num_ack_pending"])
        fresh = era == shared.history.era and epoch == self._wire.epoch
        self._happens(life, ShardEvent.LOADED, info if fresh else None)

    def doubt(self) -> None:
        """Start nothing more, ask the server which messages are unsettled, have the missing ones delivered again, and go on in order.

        Called after a reconnect, and whenever a delivery may have been lost on its way. It changes nothing in a shard that is not owned.
        """
        self._happens(self.life, ShardEvent.DOUBT)

    def _happens(self, life: ShardLife, event: ShardEvent, figures: dict[str, Any] | None = None) -> None:
        """Change the state by an event, and do what follows; `figures` is what the server has just said of the durable."""
        actions = life.happens(event)
        if life.state is ShardState.OPEN and (taken := self._taken) is not None:
            self._taken = None
            self._shared.pipeline.stats.takeovers.count((time.time_ns() - taken.since) // 1000)
            runtime, instances = self._shared.runtime, (self._shared.runtime.instance, taken.before)
            runtime.tracing.takeover(
                self._shared.pipeline.binding.function, self.lanes.number, instances, taken.left, taken.since
            )
        if life is self.life:
            self.lanes.owned, self.lanes.answering = life.owned, life.state is ShardState.CALLING
        if Action.HOLD in actions:
            self.lanes.hold()
        if Action.RECOVER in actions:
            self._tasks.start_soon(self._recovering.run, life, figures)

    async def drain(self) -> None:
        """Start nothing more; return when all running messages are settled, and all settlements are on record."""
        self._happens(self.life, ShardEvent.DRAIN)
        forgotten = self.lanes.forget_waiting()
        await self._handover.run()
        self._let_go([*forgotten, *self.lanes.unsettled])

    def lose(self) -> None:
        """Another instance owns the shard: stop at once. Handlers are cancelled, except in threads, and their outputs are not sent."""
        log.warning("another instance owns shard %s now", self.durable.name)
        self._happens(self.life, ShardEvent.LET_GO)
        forgotten = self.lanes.forget_waiting()
        running = list(self.lanes.unsettled.values())
        self._shared.parking.lose(self.lanes.turns)
        self._let_go(forgotten)
        self._leave(running)
        self._tasks.start_soon(self._retreat)

    def _let_go(self, forgotten: list[int]) -> None:
        self._happens(self.life, ShardEvent.LET_GO)
        self.lanes.let_go(forgotten)
        self.lanes.fences.end()
        self.lanes.turns.end()
        pulls = self._shared.pipeline.pulls
        if self.lanes.pull in pulls:
            pulls.remove(self.lanes.pull)

    async def _retreat(self) -> None:
        await self.lanes.pull.turn()
        if not self.lanes.owned:
            self.lanes.unowned.send_back()

    def _leave(self, running: list[Delivery]) -> None:
        """Cancel handlers whose messages are no longer ours to settle; their lanes are free once they have ended.

        A handler in a thread is left to end: a cancelled thread would run on, while its slot and its lane were free.
        """
        self._shared.runtime.quarantine.abandon(running)
        self._tasks.start_soon(self._outlast, running)
        for delivery in running:
            if delivery.task is not None and not self._shared.pipeline.calling.threaded:
                delivery.task.cancel()

    async def _outlast(self, running: list[Delivery]) -> None:
        """Free the lanes of handlers that ran when the shard was lost, each once it has ended."""
        while running:
            for delivery in running:
                if delivery.task is None:
                    self.lanes.turns.outlasted(delivery.sequence, self._shared.key_of(delivery.subject))
            running = [delivery for delivery in running if delivery.task is not None]
            await asyncio.sleep(ENDED_SECONDS)

    # -- the history of its stream ----------------------------------------------------------------------

    def newest(self) -> Identity:
        """The newest message that is known to be the stream's."""
        return self.lanes.newest()

    def arrived(self) -> Identity:
        """The newest message that is here."""
        return newest(self.lanes.unsettled)

    def silence(self) -> None:
        """The connection is lost: no ack and no output is sent before the stream is known to be the same."""
        self.lanes.withhold()
        self.lanes.fences.pause()

    def confirm(self) -> None:
        """The stream is the same: ask the server which messages are unsettled."""
        self.lanes.fences.resume()
        self.doubt()

    def cut(self, first: int, known: Identity) -> None:
        """From this sequence on the stream has other messages than those known here: forget the known ones.

        Settled and running messages are forgotten, too: the stream's consumers went back with it, and the outputs may have. The messages
        that the consumers hold as unsettled run again, in order, each key once its earlier handler has ended.
        """
        lanes = self.lanes
        running = lanes.cut(first)
        lanes.fences.forget_waiting()
        for sequence in [each for each in lanes.failures.known if 0 < first <= each]:
            self._tasks.start_soon(lanes.failures.drop, sequence)
        self._leave(running)
        self.confirm()  # what comes from here on is kept, and the server is asked anew what it has delivered
