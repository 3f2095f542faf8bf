"""The way of a message that may kill its process: looked up, let in when it may run, on record while it runs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from runner.core.settlement import Crashed
from runner.engine.incoming import Incoming
from runner.engine.isolation import CROWDED_SECONDS
from runner.engine.judging import Judging
from runner.engine.process import Process
from runner.engine.queue import Queue
from runner.engine.settling import Settling
from runner.engine.suspects import Seen, Suspects
from runner.jetstream.delivery import Delivery

log = logging.getLogger("jetrunner.pipeline")

T = TypeVar("T")


class Suspected:
    """Starts the suspects of one function."""

    def __init__(
        self,
        process: Process,
        function: str,
        suspects: Suspects,
        settling: Settling,
        judging: Judging,
        queue: Queue,
        ours: Callable[[Delivery], Awaitable[bool]],
    ) -> None:
        """`ours` tells whether a message is still this process's to settle, once anything may start at all."""
        self._isolation = process.isolation
        self._function = function
        self._suspects = suspects
        self._settling = settling
        self._judging = judging
        self._queue = queue
        self._ours = ours

    async def run(self, incoming: Incoming, handler: Callable[[], Awaitable[T | None]]) -> T | None:
        """What `handler` returned; None when the message was settled, given back or put off instead."""
        delivery = incoming.delivery
        seen = await self._suspects.look(incoming, partial(self._given_up, delivery))
        if isinstance(seen.step, Crashed):
            if await self._ours(delivery):
                await self._settling.finish(incoming, seen.step)
            return None
        stage = seen.step.stage
        async with self._isolation.enter(stage) as may_start:
            if delivery.settled:
                return None  # its shard was lost meanwhile
            if self._queue.giving_back:
                await self._settling.give_back(incoming)
                return None
            if not may_start:
                log.warning("%s: %s cannot run alone here now", self._function, incoming.id)
                delivery.source.later(delivery, CROWDED_SECONDS)
                return None
            return await self._on_record(incoming, seen, stage, handler)

    async def _on_record(
        self, incoming: Incoming, seen: Seen, stage: int, handler: Callable[[], Awaitable[T | None]]
    ) -> T | None:
        ended = None
        try:
            await self._suspects.record(incoming, seen, stage)
            if self._given_up(incoming.delivery):
                if not incoming.delivery.settled:
                    await self._settling.give_back(incoming)
                return None
            ended = await handler()
            return ended
        finally:
            hold = not self._judging.ending  # when the process ends, nothing starts beside it any more
            await self._suspects.leave(incoming, stage, ended=ended is not None, hold=hold)

    def _given_up(self, delivery: Delivery) -> bool:
        return delivery.settled or self._queue.giving_back
