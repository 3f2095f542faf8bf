"""Joins the parts of split events: each part is stored and acknowledged, and one message of each event runs the function.

Rule 1: before a part is acknowledged, it is stored, and the event's record says that it is there.
Rule 2: the write that makes the record complete names the message that runs the function with all parts. From then on
        it is a message as any other: it fails, comes again, is given up.
Rule 3: its outputs are stored before the record says that it is done; the parts are removed after that.
Rule 4: when `expires` has passed, the message of the expiry runs the function with the parts that are there.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any

from msgspec import structs

from runner import arguments
from runner.bindings import Binding
from runner.core.gather import EventRecord
from runner.core.settlement import Ack, Dead, Failed, Nak, Settlement
from runner.core.shown import line
from runner.core.signals import Reject
from runner.errors import JetrunnerError, NoStream, ServerError, StreamFull
from runner.jetstream import gathered, openevents, ownstreams
from runner.jetstream.delivery import Delivery, JoinedParts
from runner.jetstream.gathered import KEPT_SECONDS, Gathered, PartsMissing, SplitEvent, TooMany
from runner.jetstream.publisher import retry_until
from runner.pipeline.arrivals import SHOWN, Arrivals, Ways, batch_of, later
from runner.pipeline.batchcall import is_changed
from runner.pipeline.message import Incoming, is_msgpack, read, traced_in
from runner.pipeline.queue import Queue
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.gather")

LINGER_SECONDS = 0.02
"""Parts that come within this time are noted in their event's record together."""
MOST = 512
"""The most parts that are taken in together."""


class Gathering:
    """Joins the events of one function."""

    def __init__(self, runtime: Runtime, binding: Binding, queue: Queue, ways: Ways) -> None:
        assert binding.joins is not None
        self._runtime = runtime
        self._store = Gathered(runtime.connection)
        self._joins = binding.joins
        self._function = binding.function
        self._queue = queue
        self._ways = ways
        self._arrivals = Arrivals(runtime, binding, ways, self._start)
        self.counts = self._arrivals.counts
        self._window: list[Delivery] | None = None
        self._events: dict[Delivery, SplitEvent] = {}
        """The messages that run the function, each with its event, until the function has ended."""

    async def work(self, task: asyncio.Task[Any]) -> None:
        """The work of a slot; returns when the process ends, or when a handler has left a context variable behind."""
        queue, slots = self._queue.deliveries, self._runtime.slots
        while not slots.ending:
            if not queue:
                await self._queue.line.wait()
                continue
            delivery = queue.popleft()
            if (event := self._events.get(delivery)) is not None:
                try:
                    await self._run(delivery, event, task)
                finally:
                    del self._events[delivery]
                if is_changed(slots.context):
                    return
            elif self._window is not None and len(self._window) < MOST:
                self._window.append(delivery)
            else:
                await self._collect(delivery, task)

    async def _collect(self, delivery: Delivery, task: asyncio.Task[Any]) -> None:
        """Take in the parts that come within `LINGER_SECONDS`."""
        self._window = window = [delivery]
        try:
            await asyncio.sleep(LINGER_SECONDS)
            self._close(window)
            await self._arrivals.take_in(window, task)
        except BaseException as error:  # the messages come again, also where the slot's task is cancelled
            self._close(window)
            if not self._runtime.slots.ending:  # else they go back at once
                later(each for each in window if each not in self._events)
            if not isinstance(error, Exception):
                raise
            log.exception("%s: parts could not be stored", self._function)

    def _close(self, window: list[Delivery]) -> None:
        """Close a window: no more parts are added to it."""
        if self._window is window:
            self._window = None

    def _start(self, delivery: Delivery, event: SplitEvent) -> None:
        """Have a slot run the function for a message."""
        self._events[delivery] = event
        self._queue.arrive(delivery)

    async def _run(self, delivery: Delivery, event: SplitEvent, task: asyncio.Task[Any]) -> None:
        if delivery.settled:
            return
        try:
            record, _ = await self._store.read(event)
            if record.done or record.runner != read(delivery).id:
                # Since the record named the message, the event was joined, or its record is lost: the message is taken in again.
                delivery.source.later(delivery, 0.0)
                return
            delivery.joined = joined = await self._joined(event, record, delivery)
            if joined.missing and delivery.attempt == 1:
                self.counts.missing += len(joined.missing)
                self._tell_missing(joined, record)
        except TooMany as much:
            why = f"its parts have over {self._joins.max_bytes:,} bytes ({much.size:,} so far): raise max_bytes="
            await self._ways.failed(delivery, Failed(Reject(why)))
        except JetrunnerError as error:
            log.warning(
                "%s: the parts of event %s cannot be read yet: %s", self._function, event.batch, error
            )
            later([delivery])
        except Exception:  # the slot must live on, and the message comes again
            log.exception("%s: the parts of event %s could not be read", self._function, event.batch)
            later([delivery])
        else:
            await self._runtime.quarantine.wait_open()
            tracing = self._runtime.tracing
            admitted = tracing.enabled and tracing.gate.admit(traced_in(delivery))
            await self._ways.handle(delivery, task, admitted)

    async def keep(self) -> None:
        """Ask the server how many events wait for parts, and schedule ends that were lost; called every few seconds."""
        self._arrivals.expiries.keep()
        with suppress(ServerError):
            self.counts.waiting = await openevents.count(
                self._runtime.connection, self._runtime.project, self._function
            )

    def _tell_missing(self, joined: JoinedParts, record: EventRecord) -> None:
        """Log the missing parts: an operator learns nowhere else that a result lacks parts."""
        shown = ", ".join(map(str, joined.missing[:SHOWN])) + (", …" if len(joined.missing) > SHOWN else "")
        log.warning(
            "%s: %s is joined without %d of its %d parts, which have not come within %g s: %s",
            self._function, line(joined.subject.decode(errors="replace")), len(joined.missing), record.count,
            self._joins.expires, shown,
        )  # fmt: skip

    async def _joined(self, event: SplitEvent, record: EventRecord, delivery: Delivery) -> JoinedParts:
        present = record.present
        if record.count >= 0:
            present = [index for index in present if index < record.count]
        found = await self._store.fetch(event, present, self._joins.max_bytes)
        if not present:
            subject = read(delivery).origin.subject
            return JoinedParts(
                subject.encode(errors="surrogateescape"), arguments.join([]), delivery.header, record.missing
            )
        first = found[present[0]]
        subject = gathered.published_to(first)
        headers = tuple(gathered.own_block(found[index].header) for index in present)
        body = arguments.join((is_msgpack(found[index].header), found[index].body) for index in present)
        return JoinedParts(
            subject.encode(errors="surrogateescape"), body, headers[0], record.missing, headers
        )

    async def ended(self, incoming: Incoming, settlement: Settlement) -> None:
        """The function has run: write that to the record before its message is settled, however long that takes.

        Otherwise the message would come again, and the function run once more. Raises ServerError if waiting does not help.
        """
        batch = batch_of(incoming)
        if not batch or isinstance(settlement, Nak):
            return
        event = SplitEvent(self._runtime.project, self._function, batch)
        end = partial(self._tell_end, event, incoming, settlement)
        await retry_until(end, inf, f"{self._function}: the end of event {event.batch}")

    async def _tell_end(self, event: SplitEvent, incoming: Incoming, settlement: Settlement) -> None:
        """Write the end of an event; where the stream of parts was deleted, into the stream that is made again."""
        try:
            await self._end(event, incoming, settlement)
        except NoStream:
            try:
                await ownstreams.restore(self._runtime.connection, ownstreams.GATHER, must=True)
            except JetrunnerError as error:
                raise NoStream(str(error)) from None  # so `ended` tries until the stream can be made
            await self._end(event, incoming, settlement)

    async def _end(self, event: SplitEvent, incoming: Incoming, settlement: Settlement) -> None:
        if isinstance(settlement, Ack) and incoming.delivery.joined is not None:
            done = partial(self._write_end, event, EventRecord(done=True), gathered.DONE_SECONDS)
            try:
                await done()
            except StreamFull:  # the parts make room: the outputs are stored
                await self._store.clear(event)
                await done()
            await self._store.clear(event)
        elif isinstance(settlement, Dead):
            record, _ = await self._store.read(event)
            if record.runner == incoming.id:  # else it is a part that could not be decoded
                await self._keep(event, record)

    async def _keep(self, event: SplitEvent, record: EventRecord) -> None:
        """Keep the parts for a redrive."""
        with suppress(TooMany, PartsMissing, StreamFull):  # the parts stay as long as they would have
            await self._store.keep(
                event, await self._store.fetch(event, record.present, self._joins.max_bytes)
            )
        await self._write_end(event, structs.replace(record, given_up=True), KEPT_SECONDS)
        await self._store.unschedule(event)

    async def _write_end(self, event: SplitEvent, end: EventRecord, seconds: int) -> None:
        while True:
            record, revision = await self._store.read(event)
            if record.done or await self._store.write(event, end, revision, seconds):
                return
