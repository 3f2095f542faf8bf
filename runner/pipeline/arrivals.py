"""Parts that arrive: each is stored and noted in its event's record, which names one message of the event to run the function."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from runner import codec
from runner.bindings import Binding
from runner.core import gather, header, parts
from runner.core.parts import Part
from runner.core.settlement import Outcome, Undecodable
from runner.errors import JetrunnerError, NoStream
from runner.jetstream import gathered, ownstreams
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.delivery import Delivery
from runner.jetstream.gathered import Gathered, SplitEvent
from runner.pipeline.expiries import Expiries
from runner.pipeline.message import Incoming, is_msgpack, read
from runner.pipeline.stats import JoinCounts
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.gather")

AGAIN_SECONDS = 2.0
"""Delay before a part that could not be taken in comes again."""
LOOK_SECONDS = 60.0
"""The longest time until the next check, once the event's time is over, whether the message that runs the function still exists."""
SHOWN = 20
"""The most parts that a line of the log names."""
RACE_SECONDS = 0.003
"""If two instances write one record at once, the slower one waits up to so long before it tries again."""


class ArrivedPart(Struct, eq=False):
    """A part that has arrived in this process."""

    delivery: Delivery
    id: str
    """The id of its message, as `STREAM:SEQUENCE`."""
    part: Part


class Ways(Struct, frozen=True):
    """How a message goes on that is not simply stored as a part."""

    handle: Callable[[Delivery, Any, bool], Awaitable[None]]
    """Runs a message in a slot's task; the last argument says whether the gate has admitted it to a trace."""
    failed: Callable[[Delivery, Outcome], Awaitable[None]]
    """Settles a message that did not succeed."""


class Arrivals:
    """Takes in the parts of one function."""

    def __init__(
        self, runtime: Runtime, binding: Binding, ways: Ways, start: Callable[[Delivery, SplitEvent], None]
    ) -> None:
        """`start` has a slot run the function for a message."""
        assert binding.joins is not None
        assert binding.signature.body is not None
        self._runtime = runtime
        self._store = Gathered(runtime.connection)
        self._function = binding.function
        self._decode = codec.decoder(binding.signature.body.annotation)
        self._ways = ways
        self._start = start
        self._mending = False
        """Whether the stream of parts is being made again."""
        self.counts = JoinCounts()
        self.expiries = Expiries(runtime, binding)
        self._lifetime = int(binding.joins.expires) + gathered.KEPT_SECONDS

    async def take_in(self, deliveries: Sequence[Delivery], task: asyncio.Task[Any]) -> None:
        """Settle each message, except those that run the function. A message that could not be taken in comes again."""
        events: dict[SplitEvent, list[ArrivedPart]] = {}
        for delivery in deliveries:
            if batch := ended_batch(read(delivery)):
                await self._over(delivery, self._event(batch))
                continue
            stack = parts.read(delivery.header)
            if stack and stack[-1].count < 0:
                await self._ways.handle(delivery, task, False)
            elif (why := self._unfit(delivery, stack)) is not None:
                await self._ways.failed(delivery, why)
            else:
                event = self._event(stack[-1].batch)
                events.setdefault(event, []).append(ArrivedPart(delivery, read(delivery).id, stack[-1]))
        await map_concurrently(lambda each: self._arrived(*each), list(events.items()))

    def _unfit(self, delivery: Delivery, stack: Sequence[Part]) -> Undecodable | None:
        """Why a message is not a part, or cannot be decoded; None for a good part. Only this message is given up for that."""
        if not stack:
            return Undecodable(
                codec.DecodeError("it is not a part of a split event: it has no Jetrunner-Batch header")
            )
        if not stack[-1].count:
            return None
        try:
            self._decode(delivery.body, is_msgpack(delivery.header))
        except Exception as error:  # noqa: BLE001  # a type's own validation may raise anything
            return Undecodable(codec.explain(error))
        return None

    def _event(self, batch: str) -> SplitEvent:
        return SplitEvent(self._runtime.project, self._function, batch)

    async def _arrived(self, event: SplitEvent, taken: list[ArrivedPart]) -> None:
        """Parts of one event have arrived: store them, note them in its record, and acknowledge all but the one that runs the function."""
        try:
            await self._stored(event, taken)
            following = await self._told(event, taken)
            if following.late:
                which = ", ".join(each.id for each in taken[:SHOWN])
                self.counts.late += len(taken)
                log.info(
                    "%s: late parts of an event that was joined before are dropped: %s", self._function, which
                )
                await self._store.clear(event)
        except JetrunnerError as error:
            log.warning("%s: %d parts cannot be stored yet: %s", self._function, len(taken), error)
            self._mend(error)
            later(each.delivery for each in taken)
            return
        for each in taken:
            if each.delivery.settled:
                continue  # the same message was delivered once more
            if each.id == following.runs:
                self._start(each.delivery, event)
            else:
                each.delivery.source.settle(each.delivery, b"+ACK")

    async def _stored(self, event: SplitEvent, taken: Sequence[ArrivedPart]) -> None:
        async def store(each: ArrivedPart) -> None:
            delivery, subject = each.delivery, read(each.delivery).origin.subject
            pairs = [*gathered.own(header.pairs(delivery.header or b"")), (gathered.SUBJECT, subject)]
            place = await self._store.store(event, each.part.index, delivery.body, pairs, self._lifetime)
            if place is not None:
                self._runtime.histories.of(read(delivery).stream).stored.note(place)

        await map_concurrently(store, [each for each in taken if each.part.count])

    async def _told(self, event: SplitEvent, taken: Sequence[ArrivedPart]) -> gather.Next:
        arrived = {each.id: each.part.index if each.part.count else -1 for each in taken}
        count = max(each.part.count for each in taken)
        scheduled = False
        while True:
            record, revision = await self._store.read(event)
            following = gather.arrive(record, arrived, count)
            if following.record is None:
                return following
            if not revision and not following.runs and not scheduled:
                await self.expiries.schedule(event, taken[0].id)
                scheduled = True
            if await self._store.write(event, following.record, revision, self._lifetime):
                return following
            await asyncio.sleep(random.random() * RACE_SECONDS)

    async def _over(self, delivery: Delivery, event: SplitEvent) -> None:
        """The time of an event is over: run the function with the parts that are there, unless another message runs it."""
        incoming = read(delivery)
        try:
            while True:
                record, revision = await self._store.read(event)
                there = record.runner != incoming.id and await self._store.is_there(record.runner)
                following = gather.expire(record, incoming.id, there=there)
                if following.record is None or await self._store.write(
                    event, following.record, revision, self._lifetime
                ):
                    break
        except JetrunnerError as error:
            log.warning("%s: the expiry of an event cannot be handled yet: %s", self._function, error)
            self._mend(error)
            later([delivery])
            return
        if following.runs:
            self._start(delivery, event)
        elif following.waits:
            # After 2 s, 4 s, …: most functions have ended by then, and the notice with them.
            delivery.source.later(delivery, min(LOOK_SECONDS, 2.0 ** min(delivery.attempt, 6)))
        else:
            delivery.source.settle(delivery, b"+ACK")

    def _mend(self, error: JetrunnerError) -> None:
        if isinstance(error, NoStream) and not self._mending:  # an operator has deleted the stream of parts
            self._mending = True
            self._runtime.tasks.start_soon(self._restore)

    async def _restore(self) -> None:
        try:
            await ownstreams.restore(self._runtime.connection, ownstreams.GATHER, must=True)
        except JetrunnerError as error:
            log.warning("%s: the stream of parts cannot be used yet: %s", self._function, error)
        finally:
            self._mending = False


def later(deliveries: Iterable[Delivery]) -> None:
    """Have messages that could not be taken in come again after `AGAIN_SECONDS`."""
    for delivery in deliveries:
        if not delivery.settled:
            delivery.source.later(delivery, AGAIN_SECONDS)


def ended_batch(incoming: Incoming) -> str:
    """The event whose time is over, by the message's header; empty if the message is no such notice.

    Only messages from our own stream are believed, because any publisher may set a header.
    """
    batch = gathered.ended_batch(incoming.delivery.header)
    return batch if batch and incoming.origin.stream == ownstreams.AGAIN else ""


def batch_of(incoming: Incoming) -> str:
    """The event that a message belongs to, or whose time is over by its header; empty if there is none."""
    if ended := ended_batch(incoming):
        return ended
    stack = parts.read(incoming.delivery.header)
    return stack[-1].batch if stack else ""
