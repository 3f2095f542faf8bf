"""Parts that arrive: each is stored and told to its event's record, and one message of each event is named to run the function."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from runner import codec
from runner.bindings import Binding
from runner.core import gather, header, identity, parts
from runner.core.gather import Record
from runner.core.parts import Part
from runner.core.settlement import Outcome, Undecodable
from runner.errors import JetrunnerError, NoStream
from runner.jetstream import codes, gathered, ownstreams
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.delivery import Delivery
from runner.jetstream.gathered import Event, Gathered
from runner.jetstream.messages import leader_message
from runner.pipeline.message import Incoming, is_msgpack, read
from runner.pipeline.stats import JoinCounts
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.gather")

AGAIN_SECONDS = 2.0
"""Delay of a part that could not be taken in."""
LOOK_SECONDS = 60.0
"""How often it is looked whether the message that runs the function still exists, once the time is over."""
EXPIRED = gathered.EXPIRED.encode()
SHOWN = 20
"""Parts that a line of the log names."""
RACE_SECONDS = 0.003
"""Two instances that write one record wait for up to so long."""


class Taken(Struct, eq=False):
    """A part that is here."""

    delivery: Delivery
    id: str
    """Of its message, as `STREAM:SEQUENCE`."""
    part: Part


class Ways(Struct, frozen=True):
    """What becomes of a message that is taken in."""

    handle: Callable[[Delivery, Any, bool], Awaitable[None]]
    """The whole way, in a slot's task; whether the gate has admitted it to a trace."""
    failed: Callable[[Delivery, Outcome], Awaitable[None]]
    """Settle one that did not succeed."""


class Arrivals:
    """Takes in the parts of one function."""

    def __init__(
        self, runtime: Runtime, binding: Binding, ways: Ways, start: Callable[[Delivery, Event], None]
    ) -> None:
        """`start` has a slot run the function for a message."""
        assert binding.joins is not None
        assert binding.signature.body is not None
        self._runtime = runtime
        self._store = Gathered(runtime.connection)
        self._function = binding.function
        self._again = identity.again_subject(runtime.project, binding.function)
        self._decode = codec.decoder(binding.signature.body.annotation)
        self._ways = ways
        self._start = start
        self.counts = JoinCounts()
        self._expires = binding.joins.expires
        waits = sum(
            binding.retry.wait(number, 1.0) + binding.timeout for number in range(1, binding.retry.attempts)
        )
        self._lifetime = int(self._expires + min(waits, gathered.KEPT_SECONDS)) + gathered.DAY

    async def take_in(self, deliveries: Sequence[Delivery], task: asyncio.Task[Any]) -> None:
        """Settle each message, but for those that run the function. What could not be taken in comes again."""
        events: dict[Event, list[Taken]] = {}
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
                events.setdefault(event, []).append(Taken(delivery, read(delivery).id, stack[-1]))
        await map_concurrently(lambda each: self._arrived(*each), list(events.items()))

    def _unfit(self, delivery: Delivery, stack: Sequence[Part]) -> Undecodable | None:
        """Why a message is no part, or none that the function can be called with: it is given up alone."""
        if not stack:
            return Undecodable(
                codec.DecodeError("it is no part of a split event: it has no Jetrunner-Batch header")
            )
        if not stack[-1].count:
            return None
        try:
            self._decode(delivery.body, is_msgpack(delivery.header))
        except Exception as error:  # noqa: BLE001  # a type's own validation may raise anything
            return Undecodable(codec.explain(error))
        return None

    def _event(self, batch: str) -> Event:
        return Event(self._runtime.project, self._function, batch)

    async def _arrived(self, event: Event, taken: list[Taken]) -> None:
        """Parts of one event are here: store them, tell its record, and acknowledge all but the one that runs."""
        try:
            await self._stored(event, taken)
            following = await self._told(event, taken)
            if following.late:
                which = ", ".join(each.id for each in taken[:SHOWN])
                self.counts.late += len(taken)
                log.info("%s: dropped, since the event was joined before: %s", self._function, which)
                await self._store.clear(event)
        except JetrunnerError as error:
            log.warning("%s: %d parts are not taken in yet: %s", self._function, len(taken), error)
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

    async def _stored(self, event: Event, taken: Sequence[Taken]) -> None:
        async def store(each: Taken) -> None:
            delivery, subject = each.delivery, read(each.delivery).origin.subject
            pairs = [*gathered.own(header.pairs(delivery.header or b"")), (gathered.SUBJECT, subject)]
            place = await self._store.store(event, each.part.index, delivery.body, pairs, self._lifetime)
            if place is not None:
                self._runtime.histories.of(read(delivery).stream).stored.note(place)

        await map_concurrently(store, [each for each in taken if each.part.count])

    async def _told(self, event: Event, taken: Sequence[Taken]) -> gather.Next:
        arrived = {each.id: each.part.index if each.part.count else -1 for each in taken}
        count = max(each.part.count for each in taken)
        scheduled = False
        while True:
            record, revision = await self._store.read(event)
            following = gather.arrive(record, arrived, count)
            if following.record is None:
                return following
            if not revision and not following.runs and not scheduled:
                over = datetime.fromtimestamp(self._runtime.connection.clock.now() + self._expires, UTC)
                await self._store.schedule(event, self._again, over, taken[0].id)
                scheduled = True
            if await self._store.write(event, following.record, revision, self._lifetime):
                return following
            await asyncio.sleep(random.random() * RACE_SECONDS)

    async def _over(self, delivery: Delivery, event: Event) -> None:
        """The time of an event is over."""
        incoming = read(delivery)
        try:
            while True:
                record, revision = await self._store.read(event)
                following = gather.expire(
                    record, incoming.id, there=await self._is_there(record, incoming.id)
                )
                if following.record is None or await self._store.write(
                    event, following.record, revision, self._lifetime
                ):
                    break
        except JetrunnerError as error:
            log.warning("%s: the end of an event's time is not told yet: %s", self._function, error)
            self._mend(error)
            later([delivery])
            return
        if following.runs:
            self._start(delivery, event)
        elif following.waits:
            delivery.source.later(delivery, LOOK_SECONDS)
        else:
            delivery.source.settle(delivery, b"+ACK")

    async def _is_there(self, record: Record, me: str) -> bool:
        """Whether the message that runs the function still stands in its stream."""
        stream, _, sequence = record.runner.rpartition(":")
        if not record.runner or record.runner == me or not sequence.isdecimal():
            return False
        ask = {"seq": int(sequence)}
        return await leader_message(self._runtime.connection, stream, ask, codes.NOTHING_STORED) is not None

    def _mend(self, error: JetrunnerError) -> None:
        if isinstance(error, NoStream):  # somebody has deleted it
            self._runtime.tasks.start_soon(ownstreams.ensure, self._runtime.connection, ownstreams.GATHER)


def later(deliveries: Iterable[Delivery]) -> None:
    """Have messages come again in a moment: they could not be taken in."""
    for delivery in deliveries:
        if not delivery.settled:
            delivery.source.later(delivery, AGAIN_SECONDS)


def ended_batch(incoming: Incoming) -> str:
    """The event whose time a message says to be over; empty where it says so of none.

    Only what comes from our own stream is believed: any publisher may set a header.
    """
    expired = header.get(incoming.delivery.header or b"", EXPIRED)
    if not expired or incoming.origin.stream != ownstreams.AGAIN:
        return ""
    text = expired.decode("ascii", "replace")
    return text if parts.is_batch(text) else ""


def batch_of(incoming: Incoming) -> str:
    """The event that a message belongs to, or whose time it says to be over; empty where it tells none."""
    if ended := ended_batch(incoming):
        return ended
    stack = parts.read(incoming.delivery.header)
    return stack[-1].batch if stack else ""
