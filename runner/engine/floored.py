"""A shard's floor, saved outside of its durable: where to go on when somebody deletes that."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from runner.core.history import Identity
from runner.engine.lanes import Lanes
from runner.errors import JetrunnerError
from runner.jetstream import consumer

log = logging.getLogger("jetrunner.shards")

ACKS_SECONDS = 0.01
ACKS_LOOKS = 5
"""How often a floor is read at a hand-over, at most: acks on their way will raise it."""
LOOK_SECONDS = 20.0
"""A durable is looked at this often, at least: somebody may have changed its settings."""
REMEMBER_SECONDS = 1.0
"""A hand-over waits so long for its floor, at most."""


class Floored(Lanes):
    """Lanes whose durable's floor is saved."""

    pending = 0
    """Messages not yet delivered, as the server last said."""
    _looked = 0.0
    """When the durable was last looked at, by the monotonic clock."""
    _standing: dict[str, Any] | None = None
    """How the durable was left when its settings were last put back."""
    _floor: tuple[int, int, Identity] | None = None
    """The last floor that was read of the durable as it should be, and in which turn of the stream's history."""
    _remembered = (0, 0, 0)
    """The oldest message that was not settled and the newest that had come, when the floor was saved, and in which turn of
    what the bucket has lost."""

    async def remember_last(self) -> None:
        """Save the floor once the last acks are in it; the shard may be another's by now."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REMEMBER_SECONDS):
                for _ in range(ACKS_LOOKS):
                    if await self.remember():
                        break
                    await asyncio.sleep(ACKS_SECONDS)

    async def remember(self) -> bool:
        """Ask how far the durable is, unless nothing happens here, and save its floor; False when it will rise yet."""
        floors, era = self._durables.floors, self.history.era
        place = (min(self.unsettled, default=0), self.ordering.top, floors.lost)
        looked = time.monotonic() - self._looked < LOOK_SECONDS
        if place == self._remembered and not self.unsettled and not self.pending and looked:
            return True
        self._looked = time.monotonic()
        here = len(self.unsettled) + len(self._strays)
        try:
            info = await consumer.info(self._connection, self.stream, self.durable)
            if info is not None and self.owned and info["config"] != self._standing:
                if consumer.refiltered(info["config"], self._config):
                    log.warning("shard %s is made again: somebody has changed its filter", self.durable)
                    if (
                        self._floor is not None and self._floor[0] == era
                    ):  # the durable's own may be past what it left out
                        await floors.place(self.stream, self.durable, *self._floor[1:])
                    await consumer.remove(self._connection, self.stream, self.durable)
                    return True  # its pull hears of it
                self._standing = info["config"]
                changed, _ = await consumer.ensure(self._connection, self.stream, self._config, info)
                self._standing = changed["config"]
            newest = self.newest()
            if info is not None and newest.sequence < info["ack_floor"]["stream_seq"]:
                newest = (await self.history.check(thorough=False)).newest
        except JetrunnerError as error:
            log.debug("the floor of shard %s is not known: %s", self.durable, error)
            return False
        if info is None or era != self.history.era:
            return True
        self.pending = info["num_pending"]
        self._floor = era, info["ack_floor"]["stream_seq"], newest
        await floors.save(self.stream, self.durable, info["ack_floor"]["stream_seq"], newest)
        if info["num_ack_pending"] > here:  # acks are on their way, or deliveries
            return False
        if not self.ordering.barrier:  # behind it nothing tells what has moved
            self._remembered = place
        return True
