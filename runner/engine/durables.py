"""Durables that outlive deletion: made when they are missing, at their last floor when somebody deleted them."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from runner.engine.floor import Floors
from runner.jetstream import consumer
from runner.jetstream.connection import Connection

log = logging.getLogger("jetrunner.durables")


class Durables:
    """The durables of one project."""

    def __init__(self, connection: Connection, floors: Floors) -> None:
        self._connection = connection
        self.floors = floors

    async def ensure(self, stream: str, wanted: consumer.ConsumerConfig) -> dict[str, Any]:
        """The durable is there afterwards: new, or anew at its floor when somebody deleted it."""
        connection, durable = self._connection, wanted.durable_name
        existing = await consumer.info(connection, stream, durable)
        if existing is None:
            created = (await connection.api(f"STREAM.INFO.{stream}"))["created"]
            floor = await self.floors.last(stream, durable, created)
            if floor is not None and floor >= wanted.opt_start_seq:
                log.warning("durable %s on %s was deleted; it goes on after %d", durable, stream, floor)
                wanted = msgspec.structs.replace(
                    wanted, deliver_policy="by_start_sequence", opt_start_seq=floor + 1
                )
        info, new = await consumer.ensure(connection, stream, wanted, existing)
        if new and info.get("num_pending"):
            log.info("new durable %s on %s, pending: %d", durable, stream, info["num_pending"])
        return info
