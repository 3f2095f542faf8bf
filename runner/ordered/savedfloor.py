"""A shard's floor, saved outside of its durable: if the durable is deleted, a new one continues from there."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from runner.consumers.drift import Drift
from runner.core.history import Identity
from runner.errors import JetrunnerError, ServerError
from runner.jetstream import consumer, oldest
from runner.ordered.durable import ShardDurable
from runner.ordered.lanes import Lanes
from runner.ordered.shared import Shared

log = logging.getLogger("jetrunner.shards")

ACKS_SECONDS = 0.01
ACKS_LOOKS = 5
"""How often a floor is read at a hand-over, at most: acks on their way will raise it."""
LOOK_SECONDS = 20.0
"""A durable is looked at this often, at least: somebody may have changed its settings."""
REMEMBER_SECONDS = 1.0
"""A hand-over waits so long for its floor, at most."""


class SavedFloor:
    """The saved floor of one shard's durable. If somebody has changed the durable's settings, they are put back."""

    def __init__(self, shared: Shared, durable: ShardDurable, lanes: Lanes) -> None:
        self.pending = 0
        """Messages not yet delivered, as the server last said."""
        self.unacked = 0
        """Messages delivered and not settled, as the server last said."""
        self.lag = 0.0
        """Seconds that the oldest undelivered message had waited then."""
        self.drift = Drift()
        self._connection = shared.runtime.connection
        self._floors = shared.durables.floors
        self._history = shared.history
        self._durable = durable
        self._lanes = lanes
        self._looked = 0.0
        """When the durable was last looked at, by the monotonic clock."""
        self._standing: dict[str, Any] | None = None
        """How the durable was left when its settings were last put back."""
        self._floor: tuple[int, int, Identity] | None = None
        """The era of the stream's history, and the last floor and newest message read while the durable was as it should be."""
        self._remembered = (0, 0, 0)
        """When the floor was last saved: the oldest unsettled message, the newest that had come, and how often the bucket had lost
        something."""

    def begin(self, pending: int) -> None:
        """The shard is owned here once more: another owner may have raised the saved floor meanwhile."""
        self.pending = pending
        self._remembered = (0, 0, 0)

    async def remember_last(self) -> None:
        """Save the floor once the last acks are counted in it; another instance may own the shard by now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REMEMBER_SECONDS):
                for _ in range(ACKS_LOOKS):
                    if await self.save_floor():
                        break
                    await asyncio.sleep(ACKS_SECONDS)

    async def save_floor(self) -> bool:
        """Ask the server for the durable's floor and save it, unless nothing happens here; False if the floor may rise soon."""
        floors, lanes, durable, history = self._floors, self._lanes, self._durable, self._history
        unsettled, era = lanes.unsettled, history.era
        place = (min(unsettled, default=0), lanes.ordering.top, floors.lost)
        looked = time.monotonic() - self._looked < LOOK_SECONDS
        if place == self._remembered and not unsettled and not self.pending and looked:
            return True
        self._looked = time.monotonic()
        here = len(unsettled) + len(lanes.unowned)
        try:
            info = await durable.found()
            if info is not None and lanes.owned and info["config"] != self._standing:
                if consumer.refiltered(info["config"], durable.config):
                    await self._remove(era)
                    return True  # its pull hears of it
                if not await self._put_back(info):
                    return False
            newest = lanes.newest()
            if info is not None and newest.sequence < info["ack_floor"]["stream_seq"]:
                newest = (await history.check(thorough=False)).newest
        except JetrunnerError as error:
            log.debug("cannot read the floor of shard %s: %s", durable.name, error)
            return False
        if info is None or era != history.era:
            return True
        self.pending, self.unacked = info["num_pending"], info["num_ack_pending"]
        self.drift.look(durable.stream, info)
        self.lag = await oldest.waited(self._connection, durable.stream, info)
        self._floor = era, info["ack_floor"]["stream_seq"], newest
        await floors.save(durable.stream, durable.name, info["ack_floor"]["stream_seq"], newest)
        if info["num_ack_pending"] > here:  # acks are on their way, or deliveries
            return False
        if not lanes.ordering.barrier:  # behind the barrier nothing shows what has moved
            self._remembered = place
        return True

    async def _remove(self, era: int) -> None:
        """Delete a durable that reads another subject; it is made again at the last floor read before that."""
        stream, name = self._durable.stream, self._durable.name
        log.warning("the durable of shard %s is created again: another client has changed its filter", name)
        if (
            self._floor is not None and self._floor[0] == era
        ):  # the durable's own floor may be past messages that its filter left out
            await self._floors.place(stream, name, *self._floor[1:])
        await consumer.remove(self._connection, stream, name)

    async def _put_back(self, info: dict[str, Any]) -> bool:
        """Put the durable's changed settings back; False if its floor does not count. What the server refuses is tried again."""
        stream, wanted = self._durable.stream, self._durable.config
        try:
            changed, _ = await consumer.ensure(self._connection, stream, wanted, info)
        except JetrunnerError as error:
            self.drift.refused(stream, self._durable.name, error)
            return isinstance(error, ServerError)  # a durable that counts as done what it delivers is none
        self.drift.over(stream, self._durable.name)
        self._standing = changed["config"]
        return True
