"""Durables that outlive deletion: a missing one is made, and a deleted one is made again at its last floor.

Rule 1: a floor counts only in the history of the stream that it was read in. If messages were lost and others have their sequences
        by now, these are read from the first one on.
Rule 2: no durable begins above the next message of its stream: it would pass over all messages until then.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import anyio
import msgspec

from runner.core.history import Another, Back, begin
from runner.errors import PermissionDenied
from runner.jetstream import consumer
from runner.jetstream.connection import Connection
from runner.runtime.floors import Floors
from runner.runtime.histories import Histories

log = logging.getLogger("jetrunner.durables")

AGAIN_SECONDS = 2.0
"""Pause before a leader is asked again: one that was just elected, or deposed, may not know of the last messages."""


class Durables:
    """The durables of one project."""

    def __init__(self, connection: Connection, histories: Histories, floors: Floors) -> None:
        self._connection = connection
        self._histories = histories
        self.floors = floors

    async def ensure(
        self,
        stream: str,
        wanted: consumer.ConsumerConfig,
        *,
        refilter: bool = True,
        after: int | None = None,
    ) -> dict[str, Any]:
        """Make sure of a durable: it is new, or is made again at its floor if somebody deleted it, or begins after the sequence `after`.

        With `refilter` it gets the filter of `wanted`; else an existing durable keeps its own filter.
        """
        history, durable = self._histories.of(stream), wanted.durable_name
        while True:
            existing = await consumer.info(self._connection, stream, durable)
            if existing is not None and await self._beyond(stream, existing):
                await self._remove(stream, existing)
                existing = None
            if existing is None:
                await history.check()
            era = history.era
            placed = await self._placed(stream, wanted, after) if existing is None else wanted
            info, new = await consumer.ensure(self._connection, stream, placed, existing, refilter=refilter)
            if not new:
                return info
            await history.check(thorough=False)
            if era == history.era:
                if info.get("num_pending"):
                    log.info("new durable %s on %s, pending: %d", durable, stream, info["num_pending"])
                return info
            await self._remove(stream, info)  # its start was chosen in the previous history

    async def _placed(
        self, stream: str, wanted: consumer.ConsumerConfig, after: int | None
    ) -> consumer.ConsumerConfig:
        """The same settings, with the start where the previous durable ended."""
        history, durable = self._histories.of(stream), wanted.durable_name
        now = await history.check(thorough=False)
        if (
            now.work_queue
        ):  # a work queue holds only unsettled messages; the server lets no durable begin elsewhere
            return msgspec.structs.replace(wanted, deliver_policy="all", opt_start_seq=0)
        if after is not None:
            start = min(after, now.last) + 1 if after else 0
            policy = "by_start_sequence" if start else "all"
            return msgspec.structs.replace(wanted, deliver_policy=policy, opt_start_seq=start)
        floor = await self._histories.bucket.surely(partial(self.floors.last, stream, durable))
        if floor is None:
            start = min(wanted.opt_start_seq, now.last + 1)
            return msgspec.structs.replace(wanted, opt_start_seq=start)
        verdict = await history.compare(floor.known)
        start = begin(floor.sequence, verdict, wanted.opt_start_seq, now.last)
        match verdict:
            case Another():
                log.warning(
                    "durable %s starts with the first message: stream %s was created again", durable, stream
                )
            case Back():
                log.warning(
                    "durable %s was deleted, and stream %s went back: the durable is created again at %d",
                    durable,
                    stream,
                    start,
                )
            case _ if floor.sequence >= wanted.opt_start_seq:
                log.warning(
                    "durable %s on %s was deleted; it is created again after %d", durable, stream, start - 1
                )
        return msgspec.structs.replace(
            wanted, deliver_policy="by_start_sequence" if start else "all", opt_start_seq=start
        )

    async def _beyond(self, stream: str, existing: dict[str, Any]) -> bool:
        """Whether a durable would pass over the next messages: it is ahead of its stream, and still is when asked again."""
        delivered = existing["delivered"]["stream_seq"]
        history = self._histories.of(stream)
        try:
            if delivered <= (await history.check(thorough=False)).last:
                return False
        except PermissionDenied:  # no right to look at the stream
            return False
        await anyio.sleep(AGAIN_SECONDS)
        now = await history.check()
        return bool(delivered > now.last and now.led(AGAIN_SECONDS))

    async def _remove(self, stream: str, existing: dict[str, Any]) -> None:
        log.warning(
            "durable %s stands at %d, which does not fit stream %s: it is created again",
            existing["name"], existing["delivered"]["stream_seq"], stream,
        )  # fmt: skip
        await consumer.remove(self._connection, stream, existing["name"])
