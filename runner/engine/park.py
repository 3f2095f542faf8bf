"""Parking: a key whose message was given up, and what becomes of its later messages in the shard that owns it.

Rule 1: a key is parked, on record, after its dead letter is stored and before that message is terminated: its lane does
        not go on in between.
Rule 2: a message of a parked key is stored in `PARKED`, confirmed, when its turn comes in its lane, and then acknowledged.
Rule 3: the marks of a shard's keys are read from the bucket's leader once it is claimed, before anything starts.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.core import park
from runner.core.park import Mark
from runner.engine.comeback import Comeback
from runner.engine.incoming import Incoming, read
from runner.engine.process import Process
from runner.errors import JetrunnerError
from runner.jetstream import ownstreams
from runner.jetstream.delivery import Delivery
from runner.jetstream.parked import Entry, Parked
from runner.jetstream.pull import Pull, clock

if TYPE_CHECKING:
    from runner.engine.lanes import Lanes
    from runner.engine.pipeline import Pipeline

log = logging.getLogger("jetrunner.parked")

AT_ONCE = 64
"""Marks read at once."""
RETRY_SECONDS = 0.2
LOOKING_SECONDS = 3.0
"""Longest pause before a mark is read again that was announced and is not there."""
REPEAT_SECONDS = 5.0
"""Pause before a message is diverted anew that could not be stored for a reason that waiting does not mend."""


class Parking:
    """The parked keys of one ordered function, as this process knows them."""

    def __init__(
        self, process: Process, pipeline: Pipeline, positions: tuple[int, ...], place: Callable[[str], str]
    ) -> None:
        self.process = process
        self.pipeline = pipeline
        self.function = pipeline.binding.function
        self.parked = Parked(process.connection, process.project)
        self.marks: dict[bytes, Entry] = {}
        """By key; those of keys in other owners' shards may be old."""
        self.pull = Pull(process.connection, ownstreams.PARKED, "", 0, _nothing, _nothing)
        """Never opened: messages on their way back stand in it, where the sweeper looks."""
        self.pull.lease = math.inf
        pipeline.pulls.append(self.pull)
        self._parks = pipeline.binding.on_exhausted == "park"
        self._positions = positions
        self._place = place
        """Names the shard of a subject."""
        self._due: set[bytes] = set()
        """Keys to be brought back, whoever owns their shards."""
        self._returning: set[bytes] = set()
        """Keys that are being brought back here."""
        self._epoch = process.connection.wire.epoch

    # -- marks ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Learn of every mark that is written from now on."""
        await self.parked.watch(self.function, self._written)

    async def load(self, shard: Lanes) -> None:
        """Know the marks of all keys of a shard. Raises JetrunnerError."""
        names = {key.encode() for _, key in await self.parked.names(self.function)}
        keys = [key for key in {*names, *self.marks} if self._shard_of(key) == shard.name]
        for begin in range(0, len(keys), AT_ONCE):
            await asyncio.gather(*(self.read(key) for key in keys[begin : begin + AT_ONCE]))

    async def read(self, key: bytes) -> Entry | None:
        """Read a key's mark anew; one that was written here meanwhile stays."""
        before = self.marks.get(key)
        found = await self.parked.mark(self.function, key.decode())
        known = self.marks.get(key)
        if found is None and known is before:
            self.marks.pop(key, None)
            self._due.discard(key)
        elif found is not None and (known is None or known.revision < found.revision):
            self.know(key, found)
        return self.marks.get(key)

    def know(self, key: bytes, entry: Entry) -> None:
        """Take what stands in the bucket now for the key's mark."""
        self.marks[key] = entry
        if entry.mark.state == "returning":
            self._due.add(key)
        else:
            self._due.discard(key)

    def _written(self, text: str, mark: Mark) -> None:
        key = text.encode()
        known = self.marks.get(key)
        if known is None or known.mark != mark:
            self.process.tasks.start_soon(self._look, key, mark)

    async def _look(self, key: bytes, awaited: Mark | None) -> None:
        """Read a mark, until it is what was awaited: it may be on its way into the bucket, or refused there."""
        wait = 0.01
        while wait < LOOKING_SECONDS and not self.process.connection.closed.is_set():
            try:
                entry = await self.read(key)
                if awaited is None or (entry is not None and entry.mark == awaited):
                    return
            except JetrunnerError as error:
                log.debug("the mark of key %r cannot be read yet: %s", key, error)
            await asyncio.sleep(wait)
            wait *= 2

    def _shard_of(self, key: bytes) -> str:
        """Its shard depends on the key alone, and on what stands literally in the function's subject."""
        tokens = self.pipeline.binding.subject.wildcard.split(".")
        for position, token in zip(self._positions, key.decode().split("."), strict=False):
            tokens[position] = token
        return self._place(".".join(tokens))

    # -- a key is parked --------------------------------------------------------------------------------

    async def park(self, shard: Lanes, key: bytes, incoming: Incoming) -> None:
        """Park the key of a message that was given up; returns once that is on record, or the shard is lost."""
        if not self._parks or not _is_text(key):
            return
        while not incoming.delivery.settled and (tenure := shard.fences.tenure) is not None:
            try:
                if not await tenure.lasts():
                    tenure.end()
                    return
                known = self.marks.get(key)
                mark = park.parked(
                    known.mark if known else None, incoming.origin, self._positions, time.time()
                )
                entry = await self.parked.write(
                    self.function, key.decode(), mark, known.revision if known else 0
                )
                if entry is not None:
                    self.know(key, entry)
                    log.warning("%s: key %s is parked behind %s", self.function, key.decode(), incoming.id)
                    return
                await self.read(key)
            except JetrunnerError as error:
                log.warning("%s: key %s cannot be parked yet: %s", self.function, key.decode(), error)
                await asyncio.sleep(RETRY_SECONDS)

    def turns_away(self, shard: Lanes, key: bytes, delivery: Delivery) -> bool:
        """Whether a message whose turn it is in its lane does not run, because of its key's mark."""
        known = self.marks.get(key)
        if known is None:
            return False
        incoming = read(delivery)
        turn = known.mark.turn(incoming.origin)
        if turn == "ack":
            shard.settle(delivery, b"+ACK")
        elif turn == "divert":
            delivery.started = clock()  # a hand-over waits for it
            self.process.tasks.start_soon(self._divert, shard, key, incoming)
        return turn != "run"

    async def _divert(self, shard: Lanes, key: bytes, incoming: Incoming) -> None:
        delivery = incoming.delivery
        while not delivery.settled:
            try:
                await self.parked.store(
                    self.function,
                    key.decode(),
                    incoming.origin,
                    delivery.header,
                    delivery.body,
                    lambda: not delivery.settled,
                )
            except Exception as error:  # noqa: BLE001  # its key waits; nothing else does
                log.error("%s: %s cannot be parked: %r", self.function, incoming.id, error)
                await asyncio.sleep(REPEAT_SECONDS)
            else:
                shard.settle(delivery, b"+ACK")

    # -- a key comes back -------------------------------------------------------------------------------

    def resume(self, shard: Lanes) -> None:
        """Bring back what is due in a shard; called a few times a second while it is owned."""
        epoch = self.process.connection.wire.epoch
        if self._epoch != epoch and self.process.connection.is_connected:
            self._epoch = epoch  # what was written meanwhile, nobody has told us
            for key, entry in self.marks.items():
                if entry.mark.diverts:
                    self.process.tasks.start_soon(self._look, key, None)
        if not self._due or not shard.owned or shard.ordering.barrier:
            return
        for key in self._due - self._returning:
            tenure = shard.fences.tenure
            if tenure is not None and self._shard_of(key) == shard.name:
                self._returning.add(key)
                self.process.tasks.start_soon(self._bring_back, shard, Comeback(self, shard, tenure, key))

    async def _bring_back(self, shard: Lanes, comeback: Comeback) -> None:
        try:
            await comeback.run()
        except JetrunnerError as error:
            log.warning("%s: key %s waits on its way back: %s", self.function, comeback.text, error)
            await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._returning.discard(comeback.key)

    def lose(self, shard: Lanes) -> None:
        """Another instance owns the shard: what runs here of its returning keys is nobody's, and is cancelled, but for threads."""
        for delivery in list(self.pull.unsettled.values()):
            if shard.returned.get(delivery.sequence) is delivery:
                delivery.source.give_back(delivery)
                if delivery.task is not None and not self.pipeline.calling.threaded:
                    delivery.task.cancel()


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        log.error("key %r is no UTF-8 and cannot be parked; it goes on", key)
        return False
    return True


def _nothing(*_: object) -> None:
    """Nothing arrives at a pull that is never opened."""
