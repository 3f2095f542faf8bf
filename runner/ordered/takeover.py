"""How a shard gets all messages that are unsettled at the server and not here: left by the previous owner, or lost on their way.

Rule 1: the server is asked until nothing is missing. An answer on another connection, or from before the stream was known to be
        the same, does not count.
Rule 2: a message that is settled here and pending there is acknowledged again; every other missing one is delivered again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runner.core.history import StreamState
from runner.core.shardlife import ShardEvent, ShardLife, ShardState
from runner.errors import JetrunnerError, PermissionDenied
from runner.jetstream.concurrent import gather
from runner.jetstream.pull import BACKLOG_BYTES
from runner.ordered.durable import ShardDurable
from runner.ordered.lanes import Lanes
from runner.ordered.shared import Shared

log = logging.getLogger("jetrunner.shards")

MISSING_SECONDS = 0.2
"""The longest wait for missing messages before the server is asked again."""
RECOUNT_SECONDS = 0.003
"""Pause before the server's figures are read again, if they counted messages that are settled here."""
AT_ONCE = 2_000
"""Messages that the server is asked to deliver again in one turn of the loop: about a millisecond."""
PAUSE_SECONDS = 0.002
RETRY_SECONDS = 0.1
"""Pause after a request that failed."""


class Recovering:
    """Recovers the unsettled messages of one shard; `happens` is called with each event that follows."""

    def __init__(
        self,
        shared: Shared,
        durable: ShardDurable,
        lanes: Lanes,
        happens: Callable[[ShardLife, ShardEvent], None],
    ) -> None:
        self._history = shared.history
        self._wire = shared.runtime.connection.wire
        self._durable = durable
        self._lanes = lanes
        self._happens = happens

    async def run(self, life: ShardLife, figures: dict[str, Any] | None) -> None:
        """Ask the server until nothing is missing; `figures` is what it said of the durable just now."""
        lanes, happens, wait = self._lanes, self._happens, MISSING_SECONDS / 16
        ordering = lanes.ordering
        while life.recovering:
            happens(life, ShardEvent.ASK)
            epoch = self._wire.epoch
            try:
                if ordering.uncommitted:
                    await lanes.record()
                    figures = None
                if figures is None:
                    figures, now = await gather(self._durable.info(), self._stream())
                    if now is not None and figures["delivered"]["stream_seq"] > now.last:
                        figures = await self._durable.ensure()
            except JetrunnerError as error:
                log.debug("shard %s cannot be taken over yet: %s", self._durable.name, error)
                figures = None  # they may be from before the error
                await asyncio.sleep(RETRY_SECONDS)
                happens(life, ShardEvent.LATE)
                continue
            if epoch != self._wire.epoch or not self._history.confirmed or ordering.uncommitted:
                happens(life, ShardEvent.LATE)
            if life.recovering:
                lanes.opened.clear()
            reacked = life.state is ShardState.ASKING and await self._take_over(life, figures, epoch)
            figures = None
            await lanes.pull.turn()
            await self._arrivals(life, RECOUNT_SECONDS if reacked else wait)
            wait = min(MISSING_SECONDS, wait * 2)
            happens(life, ShardEvent.LATE if ordering.barrier else ShardEvent.COMPLETE)

    async def _stream(self) -> StreamState | None:
        """The state of the stream; None if the credentials no longer allow to read it, which the history has logged."""
        try:
            now = await self._history.check()
        except PermissionDenied:
            return None
        self._lanes.made_at(now.created)
        return now

    async def _take_over(self, life: ShardLife, info: dict[str, Any], epoch: int) -> bool:
        """Take the shard over; returns whether acks were sent again: then the server's figures still count those messages."""
        self._happens(life, ShardEvent.TOLD)
        recovery = self._lanes.take_over(info, epoch)
        number = info["delivered"]["consumer_seq"]
        self._durable.answer(b"+ACK", recovery.reack, number)
        await self._ask_for(life, recovery.nak, number)
        return bool(recovery.reack)

    async def _ask_for(self, life: ShardLife, sequences: range, number: int) -> None:
        """Have the missing ones of these sequences delivered again. They may be millions, with other shards' messages in between."""
        ordering, wire = self._lanes.ordering, self._wire
        epoch = wire.epoch
        try:
            for begin in range(sequences.start, sequences.stop, AT_ONCE):
                part = sequences[begin - sequences.start :][:AT_ONCE]
                self._durable.answer(b"-NAK", ordering.missing(part), number)
                await asyncio.sleep(0)
                while wire.backlog > BACKLOG_BYTES and epoch == wire.epoch:
                    await asyncio.sleep(PAUSE_SECONDS)
                if life.state is not ShardState.CALLING or not ordering.barrier or epoch != wire.epoch:
                    return
        finally:
            self._happens(life, ShardEvent.CALLED)
            self._lanes.pull.ask_again()

    async def _arrivals(self, life: ShardLife, wait: float) -> None:
        """Wait for the barrier to open, as long as something comes every `wait` seconds."""
        lanes, ordering, awaited = self._lanes, self._lanes.ordering, -1
        while life.state is ShardState.AWAITING and ordering.barrier and ordering.awaited != awaited:
            awaited = ordering.awaited
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await lanes.opened.wait()
