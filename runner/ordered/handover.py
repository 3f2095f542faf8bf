"""The end of an ownership: what happens in this process before the shard's next owner may take it.

Rule 1: its handlers end first, and what they settle is put on record.
Rule 2: the next owner runs all messages that are unsettled at the server. Acks may have been lost with a server or on their way, so
        the shard is released only once the server has counted them.
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
"""First pause after a request that failed."""
LONGEST_RETRY_SECONDS = 1.6
"""The longest pause; each is twice as long as the one before."""


class Handover:
    """Hands over one shard."""

    def __init__(self, shared: Shared, durable: ShardDurable, lanes: Lanes) -> None:
        self._history = shared.history
        self._wire = shared.runtime.connection.wire
        self._durable = durable
        self._lanes = lanes

    async def run(self) -> None:
        """Return when all running messages are settled, and all settlements are on record. Nothing starts any more."""
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
        """Send the acks again that the server has not counted. The server is asked until it answers, or the ownership ends."""
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
                if not lanes.pull.guard.lease_valid(time.monotonic()):  # then no ack was written
                    await asyncio.sleep(wait)
                    continue
            return
