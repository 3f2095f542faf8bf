"""A shard's last moments here, before its next owner may have it.

Rule 1: its handlers end first, and what they settle is put on record.
Rule 2: the next owner runs what the server takes for unsettled: acks may have been lost with a server or on their way, so
        the server counts them first.
"""

from __future__ import annotations

import asyncio
import logging
import time

from runner.errors import JetrunnerError
from runner.jetstream.concurrent import gather
from runner.ordered.durable import ShardDurable
from runner.ordered.lanes import Lanes
from runner.ordered.shared import Shared

log = logging.getLogger("jetrunner.shards")

LOOK_SECONDS = 0.002
RETRY_SECONDS = 0.1
"""Pause after an answer that did not come."""
LONGEST_RETRY_SECONDS = 1.6
"""Each is twice as long as the one before, up to this."""


class Handover:
    """Of one shard."""

    def __init__(self, shared: Shared, durable: ShardDurable, lanes: Lanes) -> None:
        self._history = shared.history
        self._wire = shared.runtime.connection.wire
        self._durable = durable
        self._lanes = lanes

    async def run(self) -> None:
        """Return when everything that runs here is settled, and what was is on record; nothing starts any more."""
        lanes = self._lanes
        lanes.turns.give_back()
        await gather(lanes.pull.turn(), self._handlers_end())
        await gather(self._ack_again(), lanes.record())
        await lanes.record()

    async def _handlers_end(self) -> None:
        here, replayed = self._lanes.unsettled, self._lanes.turns.replayed
        while any(delivery.started for delivery in (*here.values(), *replayed.values())):
            await asyncio.sleep(LOOK_SECONDS)

    async def _ack_again(self) -> None:
        """The server is asked until it answers: only the end of the process, or of the ownership, comes before that."""
        lanes, fences = self._lanes, self._lanes.fences
        ownership, wait = fences.ownership, RETRY_SECONDS
        while fences.ownership is ownership and lanes.ordering.settled_any:
            try:
                info = await self._durable.found()
                created = (await self._history.check()).created if info is not None else ""
            except JetrunnerError as error:
                warns = wait < LONGEST_RETRY_SECONDS <= wait * 2
                log.log(
                    logging.WARNING if warns else logging.DEBUG,
                    "shard %s is not handed over before its acks are counted: %s", self._durable.name, error,
                )  # fmt: skip
                await asyncio.sleep(wait)
                wait = min(LONGEST_RETRY_SECONDS, wait * 2)
                continue
            if info is not None and created == lanes.newest.made:
                floor, delivered = info["ack_floor"], info["delivered"]
                done = lanes.ordering.done(floor["stream_seq"], delivered["stream_seq"])
                lanes.settle_again(done)
                self._durable.answer(b"+ACK", done, delivered["consumer_seq"])
                self._wire.flush()
                if not lanes.pull.guard.lease_valid(time.monotonic()):  # then nothing is written
                    await asyncio.sleep(wait)
                    continue
            return
