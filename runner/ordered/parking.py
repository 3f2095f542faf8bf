"""Parking: a key whose message was given up, and what becomes of its later messages in the shard that owns it.

Rule 1: a key is parked, on record, after its dead letter is stored and before that message is terminated: its lane does
        not go on in between.
Rule 2: a message of a key that is kept back is stored in `PARKED`, confirmed, when its turn comes in its lane, and then
        acknowledged. Like a handler, a copy begins only while this instance may start ordered work: else another owner may already
        have stored it, and even brought the key back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from functools import partial

from runner.core import identity, park
from runner.core.header import is_marker
from runner.core.news import News
from runner.core.shardlife import ShardLife
from runner.errors import JetrunnerError
from runner.jetstream import ownstreams
from runner.jetstream.delivery import Delivery
from runner.jetstream.pull import Pull, clock
from runner.ordered.marks import Marks, text_of
from runner.ordered.turns import Turns
from runner.pipeline.fence import Fences
from runner.pipeline.message import Incoming, read
from runner.pipeline.pipeline import Pipeline
from runner.runtime.history import History
from runner.runtime.runtime import Runtime
from runner.telemetry.attempt import SentSpan

log = logging.getLogger("jetrunner.parked")

RETRY_SECONDS = 0.2
WAIT_SECONDS = 0.02
REPEAT_SECONDS = 5.0
"""Pause before the next try to divert a message, after an error that does not pass by itself."""


class Parking:
    """The keys of one ordered function that are kept back in this process."""

    def __init__(
        self, runtime: Runtime, pipeline: Pipeline, history: History, place: Callable[[str], str]
    ) -> None:
        self.runtime = runtime
        self.pipeline = pipeline
        self.function = pipeline.binding.function
        self._history = history
        self.book = Marks(runtime, pipeline.binding, place)
        self.marks = self.book.standing
        """The marks by key."""
        self.parked = self.book.parked
        self.pull = Pull(runtime.connection, ownstreams.PARKED, "", 0, _nothing, _nothing)
        """Never opened. It holds the messages on their way back, so that the sweeper sees them."""
        self.pull.extend_every = math.inf
        pipeline.pulls.append(self.pull)
        self.parks = pipeline.binding.on_exhausted == "park"
        """Whether giving up a message parks its key."""
        self._positions = pipeline.binding.key_positions

    async def start(self) -> None:
        """Learn of every mark. Raises UsageError for marks that this function cannot use."""
        await self.book.start()

    async def load(self, shard: str, life: ShardLife) -> None:
        """Read the marks of all keys of a shard. Raises JetrunnerError."""
        await self.book.load(shard, life)

    async def rewrite(self) -> None:
        """Write again the marks of keys kept back here that the bucket has lost. Raises JetrunnerError."""
        await self.book.rewrite()

    # -- a key is parked --------------------------------------------------------------------------------

    async def park(self, fences: Fences, key: bytes, incoming: Incoming) -> None:
        """Park the key of a message that was given up; returns once that is on record, or the shard is lost."""
        if not self.parks:
            return
        text = text_of(key)
        entry, news = self.marks.get(key), News()
        while not incoming.delivery.settled and (ownership := fences.ownership) is not None:
            try:
                if not await ownership.lasts():
                    ownership.end()
                    return
                known = entry is not None and entry.mark.positions == self._positions
                before = entry.mark if entry is not None and known else None
                mark = park.parked(before, incoming.origin, self._positions, time.time(), text)
                if await self.book.write(mark, entry.revision if entry is not None else 0) is not None:
                    log.warning("%s: key %s is parked behind %s", self.function, text, incoming.id)
                    return
                entry = await self.book.read(key)
            except JetrunnerError as error:
                news.warn(log, "%s: key %s cannot be parked yet: %s", self.function, text, error)
                await asyncio.sleep(RETRY_SECONDS)

    def turns_away(self, key: bytes, delivery: Delivery) -> bool:
        """Whether a message does not run although its turn has come, because of its key's mark; then it is settled from here."""
        known = self.marks.get(key)
        if known is None:
            return False
        incoming = read(delivery)
        turn = known.mark.turn(incoming.origin)
        if turn == "divert" and not delivery.body and is_marker(delivery.header):
            turn = "ack"  # its copy, which lacks the server's own headers, would be taken for a message
        if turn == "ack":
            delivery.source.settle(delivery, b"+ACK")
        elif turn == "divert":
            delivery.started = clock()  # a hand-over waits for it
            self.runtime.tasks.start_soon(self._divert, key, incoming)
        return turn != "run"

    async def _divert(self, key: bytes, incoming: Incoming) -> None:
        delivery = incoming.delivery
        span = self._span(key, incoming)
        while not delivery.settled:
            try:
                place = await self.parked.store(
                    self.function,
                    text_of(key),
                    incoming.origin,
                    delivery.header,
                    delivery.body,
                    partial(self._wanted, delivery),
                )
                if place is not None:
                    self._history.stored.note(place)
                    delivery.source.settle(delivery, b"+ACK")
                    if span is not None:
                        span.end(stream=place.stream, sequence=place.sequence)
            except Exception as error:  # noqa: BLE001  # its key waits; nothing else does
                log.error("%s: %s cannot be parked: %r", self.function, incoming.id, error)
                await asyncio.sleep(REPEAT_SECONDS)

    def _span(self, key: bytes, incoming: Incoming) -> SentSpan | None:
        tracing, place = self.runtime.tracing, incoming.origin
        subject = identity.parked_subject(self.runtime.project, self.function, text_of(key))
        message = place.stream, place.sequence, place.timestamp_ns
        return tracing.park_span(self.function, subject, incoming.delivery.header, message)

    async def _wanted(self, delivery: Delivery) -> bool:
        """Whether a copy may be stored: the shard is ours, and its stream is known to be the same on this connection."""
        while not self._history.confirmed and not delivery.settled:
            await asyncio.sleep(WAIT_SECONDS)
        return await self.pipeline.owns(delivery) and self._history.confirmed

    def lose(self, turns: Turns) -> None:
        """Another instance owns the shard: give back the messages of its returning keys, and cancel their handlers, except in threads."""
        replayed = list(turns.replayed.values())
        self.runtime.quarantine.abandon(replayed)
        for delivery in replayed:
            delivery.source.give_back(delivery)
            if delivery.task is not None and not self.pipeline.calling.threaded:
                delivery.task.cancel()


def _nothing(*_: object) -> None:
    """Nothing arrives at a pull that is never opened."""
