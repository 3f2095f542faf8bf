"""One shard of one ordered function: taken over, in doubt, drained, lost.

Rule 1: nothing starts before everything that the predecessor left unsettled is here again (`takeover.py`).
Rule 2: once the shard is lost, whatever still runs is nobody's: its outputs and its ack are not sent.
Rule 3: in doubt, nothing is acknowledged before the stream was found to be the same: the number may be another message's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from msgspec import Struct

from runner.core.address import Address
from runner.core.history import Identity
from runner.core.shardlife import Action, Event, ShardLife, State
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
"""Pause between two looks whether a handler has ended."""


class Taken(Struct, frozen=True):
    """From whom a shard was taken over."""

    since: int
    """When it was claimed, in nanoseconds of Unix time."""
    before: str
    left: int
    """Messages that its owner before had not settled."""


class Shard:
    """A shard and its parts. It outlives its ownership: what still runs when it is lost keeps its lane."""

    def __init__(self, shared: Shared, address: Address, limit: int) -> None:
        """`limit` messages of it are here at once, but for those that wait behind others of their key."""
        self.name = address.name
        self.life = ShardLife(State.RELEASED)
        """Since the last claim."""
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
        self._taken: Taken | None = None
        """How it was taken over, until it works."""
        self._handover = Handover(shared, self.durable, self.lanes)
        self._shared = shared
        self._wire = shared.runtime.connection.wire
        self._tasks = shared.runtime.tasks
        shared.history.add(self)

    # -- its life ---------------------------------------------------------------------------------------

    async def open(self, ownership: ShardOwnership) -> None:
        """Take the shard over from whoever had it; returns once its messages may start, or it is lost again."""
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
        if life.state is not State.TAKING or not (
            time.monotonic() - began < LONG_OPENING_SECONDS or await ownership.lasts()
        ):
            return
        self.floor.begin(info["num_pending"])
        lanes.unowned.clear()
        name = lanes.made_at(now.created)
        for record in records:  # what others have settled
            lanes.ordering.know(record.get(name, ()))
        if lanes.pull not in shared.pipeline.pulls:
            shared.pipeline.pulls.append(lanes.pull)
        if before := next(iter(ownership.claim.before), ""):
            self._taken = Taken(claimed, before, info["num_ack_pending"])
        fresh = era == shared.history.era and epoch == self._wire.epoch
        self._happens(life, Event.LOADED, info if fresh else None)

    def doubt(self) -> None:
        """Start nothing more, ask the server what it holds unsettled, have it delivered anew, and go on in order.

        After our own reconnect, and whenever a delivery may have been lost on its way. A shard that is not owned has no doubts.
        """
        self._happens(self.life, Event.DOUBT)

    def _happens(self, life: ShardLife, event: Event, figures: dict[str, Any] | None = None) -> None:
        """Go on, and do what follows; `figures` is what the server said of the durable just now."""
        actions = life.happens(event)
        if life.state is State.OPEN and (taken := self._taken) is not None:
            self._taken = None
            self._shared.pipeline.stats.takeovers.count((time.time_ns() - taken.since) // 1000)
            runtime, instances = self._shared.runtime, (self._shared.runtime.instance, taken.before)
            runtime.tracing.takeover(
                self._shared.pipeline.binding.function, self.lanes.number, instances, taken.left, taken.since
            )
        if life is self.life:
            self.lanes.owned, self.lanes.answering = life.owned, life.state is State.CALLING
        if Action.HOLD in actions:
            self.lanes.hold()
        if Action.RECOVER in actions:
            self._tasks.start_soon(self._recovering.run, life, figures)

    async def drain(self) -> None:
        """Start nothing more, and return when everything that runs here is settled, and what was is on record."""
        self._happens(self.life, Event.DRAIN)
        forgotten = self.lanes.forget_waiting()
        await self._handover.run()
        self._let_go([*forgotten, *self.lanes.unsettled])

    def lose(self) -> None:
        """Somebody else owns it: stop at once. What runs is cancelled, but for threads; what it would send is not sent."""
        log.warning("shard %s is another instance's now", self.durable.name)
        self._happens(self.life, Event.LET_GO)
        forgotten = self.lanes.forget_waiting()
        running = list(self.lanes.unsettled.values())
        self._shared.parking.lose(self.lanes.turns)
        self._let_go(forgotten)
        self._leave(running)
        self._tasks.start_soon(self._retreat)

    def _let_go(self, forgotten: list[int]) -> None:
        self._happens(self.life, Event.LET_GO)
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
        """Cancel handlers whose messages are not ours to settle any more; their lanes are free once they have ended.

        A cancelled thread would run on, with its slot and its lane free: it is left to end.
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
        """The connection is lost: what was made here is neither settled nor stored before the stream was found to be the same."""
        self.lanes.withhold()
        self.lanes.fences.pause()

    def confirm(self) -> None:
        """The stream is the same; what the server holds unsettled is to be asked."""
        self.lanes.fences.resume()
        self.doubt()

    def cut(self, first: int, known: Identity) -> None:
        """From this sequence on the stream has other messages than those that are known here: forget them.

        So is all that was settled or runs here: the stream's consumers went back with it, and so may the outputs have. What
        they take for unsettled runs again, in order, each key once its handler of before has ended.
        """
        lanes = self.lanes
        running = lanes.cut(first)
        lanes.fences.forget_waiting()
        for sequence in [each for each in lanes.failures.known if 0 < first <= each]:
            self._tasks.start_soon(lanes.failures.drop, sequence)
        self._leave(running)
        self.confirm()  # what comes from here on is kept, and the server is asked anew what it has delivered
