"""The way of a suspect: its start records are read, it waits until it may run, and its start is on record while it runs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from runner.core import poison
from runner.core.settlement import Crashed
from runner.jetstream.delivery import Delivery
from runner.pipeline.message import Incoming
from runner.pipeline.outcomes import Outcomes
from runner.pipeline.queue import Queue
from runner.pipeline.settle import Settling
from runner.pipeline.start_records import FoundStarts, StartRecords
from runner.runtime.cell import Cell, Died, Missing, NoFreeCell
from runner.runtime.quarantine import CROWDED_SECONDS
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.pipeline")

T = TypeVar("T")


class Suspected:
    """Starts the suspects of one function."""

    def __init__(
        self,
        runtime: Runtime,
        function: str,
        suspects: StartRecords,
        settling: Settling,
        outcomes: Outcomes,
        queue: Queue,
        ours: Callable[[Delivery], Awaitable[bool]],
    ) -> None:
        """`ours` waits until messages may start, and says whether a message is still this process's to settle."""
        self._quarantine = runtime.quarantine
        self._cells = runtime.cells
        self._function = function
        self._suspects = suspects
        self._settling = settling
        self._outcomes = outcomes
        self._queue = queue
        self._ours = ours

    async def run(
        self,
        incoming: Incoming,
        handler: Callable[[], Awaitable[T | None]],
        in_cell: Callable[[Cell], Awaitable[T | None]],
    ) -> T | None:
        """The result of `handler` or `in_cell`; None if the message was settled, given back or put off instead."""
        delivery = incoming.delivery
        while True:
            found = await self._suspects.look(incoming, partial(self._given_up, delivery))
            if isinstance(found.step, Crashed):
                if await self._ours(delivery):
                    await self._settling.finish(incoming, found.step)
                return None
            if found.step.stage != poison.CELL:
                return await self._here(incoming, found, found.step.stage, handler)
            fresh = any(start.seen for start in found.record.starts)
            try:
                async with self._cells.one(partial(self._given_up, delivery), fresh=fresh) as cell:
                    return await self._on_record(incoming, found, poison.CELL, partial(in_cell, cell))
            except NoFreeCell:
                if not delivery.settled:
                    await self._settling.give_back(incoming)
                return None
            except Missing as error:
                self._cells.miss(str(error))
                return await self._here(incoming, found, poison.ALONE, handler)
            except Died as death:
                if not await self._died(incoming, death):
                    return None

    async def _died(self, incoming: Incoming, death: Died) -> bool:
        """Its cell has died with the message: note that; returns whether the message may run here once more."""
        log.warning("%s: %s ran in a process of its own, which died: %s", self._function, incoming.id, death)
        if await self._cells.is_witness() and not incoming.delivery.settled:
            await self._suspects.witness(incoming, death.cell)
        else:
            await self._suspects.withdraw(incoming, 0)
        if not self._given_up(incoming.delivery):
            return True
        if not incoming.delivery.settled:
            await self._settling.give_back(incoming)
        return False

    async def _here(
        self, incoming: Incoming, found: FoundStarts, stage: int, handler: Callable[[], Awaitable[T | None]]
    ) -> T | None:
        """Run a message in this process."""
        delivery = incoming.delivery
        async with self._quarantine.enter(stage) as may_start:
            if delivery.settled:
                return None  # its shard was lost meanwhile
            if self._queue.giving_back:
                await self._settling.give_back(incoming)
                return None
            if not may_start:
                log.warning(
                    "%s: %s waits to run alone in this process: an abandoned handler still runs",
                    self._function,
                    incoming.id,
                )
                delivery.source.later(delivery, CROWDED_SECONDS)
                return None
            return await self._on_record(incoming, found, stage, handler)

    async def _on_record(
        self, incoming: Incoming, found: FoundStarts, stage: int, handler: Callable[[], Awaitable[T | None]]
    ) -> T | None:
        ended, died = None, False
        try:
            if not self._given_up(incoming.delivery):
                await self._suspects.record(incoming, found, stage)
            if self._given_up(incoming.delivery):
                if not incoming.delivery.settled:
                    await self._settling.give_back(incoming)
                return None
            ended = await handler()
            return ended
        except Died:
            died = True
            raise
        finally:
            if not died:  # a death is put on record by `_died`
                hold = not self._outcomes.ending  # at the end of the process no message starts beside it
                await self._suspects.leave(incoming, stage, ended=ended is not None, hold=hold)

    def _given_up(self, delivery: Delivery) -> bool:
        return delivery.settled or self._queue.giving_back
