"""Joining the parts of split events: each part is stored and acknowledged, and one message of each event runs the function.

Rule 1: a part is stored before it is acknowledged; so is, in the event's record, that it is there.
Rule 2: the write that makes the record complete names the message that runs the function with all parts. From then on
        it is a message as any other: it fails, comes again, is given up.
Rule 3: its outputs are stored before the record says that it is done; the parts are removed after that.
Rule 4: what is left when the time is over runs by the message that says so, with the parts that are there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, structs

from runner import codec
from runner.bindings import Binding
from runner.core import gather, header, identity, parts
from runner.core.gather import Record
from runner.core.parts import Part
from runner.core.settlement import Ack, Dead, Failed, Nak, Outcome, Settlement, Undecodable
from runner.core.signals import Reject
from runner.errors import JetrunnerError, NoStream
from runner.jetstream import gathered, ownstreams
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.delivery import Delivery, Joined
from runner.jetstream.gathered import KEPT_SECONDS, Event, Gathered, TooMany
from runner.jetstream.messages import leader_message
from runner.pipeline.batch import is_changed
from runner.pipeline.message import Incoming, is_msgpack, read
from runner.pipeline.queue import Queue
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.gather")

LINGER_SECONDS = 0.02
"""Parts that come within it are told to their event's record together."""
MOST = 512
"""Parts that are taken in together."""
AGAIN_SECONDS = 2.0
"""Delay of a part that could not be taken in."""
LOOK_SECONDS = 60.0
"""How often it is looked whether the message that runs the function still exists, once the time is over."""
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


class Gathering:
    """The events of one function."""

    def __init__(self, runtime: Runtime, binding: Binding, queue: Queue, ways: Ways) -> None:
        assert binding.joins is not None
        assert binding.signature.body is not None
        self._runtime = runtime
        self._store = Gathered(runtime.connection)
        self._joins = binding.joins
        self._function = binding.function
        self._again = identity.again_subject(runtime.project, binding.function)
        self._decode = codec.decoder(binding.signature.body.annotation)
        self._queue = queue
        self._ways = ways
        self._window: list[Delivery] | None = None
        self._events: dict[Delivery, Event] = {}
        """The messages that run the function."""
        waits = sum(
            binding.retry.wait(number, 1.0) + binding.timeout for number in range(1, binding.retry.attempts)
        )
        self._lifetime = int(self._joins.expires + min(waits, gathered.KEPT_SECONDS)) + gathered.DAY

    async def work(self, task: asyncio.Task[Any]) -> None:
        """What a slot does: returns when the process ends, or when a handler has left a variable behind."""
        queue, slots = self._queue.deliveries, self._runtime.slots
        while not slots.ending:
            if not queue:
                await self._queue.wait()
                continue
            delivery = queue.popleft()
            if delivery in self._events:
                await self._run(delivery, task)
                if is_changed(slots.context):
                    return
            elif self._window is not None and len(self._window) < MOST:
                self._window.append(delivery)
            else:
                await self._collect(delivery, task)

    async def _collect(self, delivery: Delivery, task: asyncio.Task[Any]) -> None:
        """Take in what comes within a moment."""
        self._window = window = [delivery]
        await asyncio.sleep(LINGER_SECONDS)
        if self._window is window:
            self._window = None
        try:
            await self._take_in(window, task)
        except Exception:  # the slot must live on, and the messages come again
            log.exception("%s: parts could not be taken in", self._function)
            self._later(window)

    async def _take_in(self, deliveries: Sequence[Delivery], task: asyncio.Task[Any]) -> None:
        events: dict[Event, list[Taken]] = {}
        for delivery in deliveries:
            if expired := header.get(delivery.header or b"", gathered.EXPIRED.encode()):
                await self._over(delivery, self._event(expired.decode("ascii", "replace")))
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

    # -- parts ------------------------------------------------------------------------------------------

    async def _arrived(self, event: Event, taken: list[Taken]) -> None:
        """Parts of one event are here: store them, tell its record, and acknowledge all but the one that runs."""
        try:
            await self._stored(event, taken)
            following = await self._told(event, taken)
            if following.late:
                await self._store.clear(event)
        except JetrunnerError as error:
            log.warning("%s: %d parts are not taken in yet: %s", self._function, len(taken), error)
            if isinstance(error, NoStream):
                self._runtime.tasks.start_soon(self._restore)
            self._later([each.delivery for each in taken])
            return
        for each in taken:
            if each.id == following.runs:
                self._start(each.delivery, event)
            else:
                each.delivery.source.settle(each.delivery, b"+ACK")

    async def _stored(self, event: Event, taken: Sequence[Taken]) -> None:
        async def store(each: Taken) -> None:
            delivery, subject = each.delivery, read(each.delivery).origin.subject
            pairs = [*gathered.own(header.pairs(delivery.header or b"")), (gathered.SUBJECT, subject)]
            await self._store.store(event, each.part.index, delivery.body, pairs, self._lifetime)

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
                over = datetime.fromtimestamp(self._runtime.connection.clock.now() + self._joins.expires, UTC)
                await self._store.schedule(event, self._again, over)
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
            self._later([delivery])
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
        try:
            return await leader_message(self._runtime.connection, stream, {"seq": int(sequence)}) is not None
        except NoStream:
            return False

    def _start(self, delivery: Delivery, event: Event) -> None:
        """Have a slot run the function."""
        self._events[delivery] = event
        self._queue.arrive(delivery)

    def _later(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if not delivery.settled and delivery not in self._events:
                delivery.source.later(delivery, AGAIN_SECONDS)

    async def _restore(self) -> None:
        """Make our stream again: somebody has deleted it."""
        await ownstreams.ensure(self._runtime.connection, ownstreams.GATHER)

    # -- the function -----------------------------------------------------------------------------------

    async def _run(self, delivery: Delivery, task: asyncio.Task[Any]) -> None:
        event = self._events.pop(delivery)
        if delivery.settled:
            return
        try:
            record, _ = await self._store.read(event)
            delivery.joined = await self._joined(event, record, delivery)
        except TooMany as much:
            why = f"its parts have over {self._joins.max_bytes:,} bytes ({much.size:,} so far): raise max_bytes="
            await self._ways.failed(delivery, Failed(Reject(why)))
        except JetrunnerError as error:
            log.warning("%s: the parts of %s are not here yet: %s", self._function, event.batch, error)
            self._later([delivery])
        else:
            tracing = self._runtime.tracing
            await self._ways.handle(delivery, task, tracing.enabled and tracing.gate.admit(delivery.header))

    async def _joined(self, event: Event, record: Record, delivery: Delivery) -> Joined:
        present = record.present
        if record.count >= 0:
            present = [index for index in present if index < record.count]
        found = await self._store.fetch(event, present, self._joins.max_bytes)
        if not present:
            subject = read(delivery).origin.subject
            return Joined(
                subject.encode(errors="surrogateescape"), codec.join([]), delivery.header, record.missing
            )
        first = found[present[0]]
        subject = header.parse(first.header or b"").get(gathered.SUBJECT, "")
        body = codec.join((is_msgpack(found[index].header), found[index].body) for index in present)
        return Joined(subject.encode(errors="surrogateescape"), body, first.header, record.missing)

    async def ended(self, incoming: Incoming, settlement: Settlement) -> None:
        """The function has run: before its message is settled, the record says so. Raises ServerError."""
        delivery = incoming.delivery
        if delivery.joined is None or isinstance(settlement, Nak):
            return
        event = self._event(self._batch(delivery))
        match settlement:
            case Ack():
                await self._write_end(event, Record(done=True), gathered.DONE_SECONDS)
                await self._store.clear(event)
            case Dead():
                record, _ = await self._store.read(event)
                kept = await self._store.fetch(event, record.present, self._joins.max_bytes)
                await self._store.keep(event, kept)
                await self._write_end(event, structs.replace(record, given_up=True), KEPT_SECONDS)
                await self._store.unschedule(event)

    async def _write_end(self, event: Event, end: Record, seconds: int) -> None:
        while True:
            record, revision = await self._store.read(event)
            if record.done or await self._store.write(event, end, revision, seconds):
                return

    @staticmethod
    def _batch(delivery: Delivery) -> str:
        expired = header.get(delivery.header or b"", gathered.EXPIRED.encode())
        return expired.decode("ascii", "replace") if expired else parts.read(delivery.header)[-1].batch
