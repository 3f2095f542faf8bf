"""The slots of a process: the tasks that handlers run in, and their end."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Any, Self

import anyio

log = logging.getLogger("jetrunner")

ENDING_SECONDS = 3.0
"""Time that cancelled handlers get to clean up after themselves."""


class Slots:
    """The slots of all functions; as a context, what handlers use is closed around it."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self.ending = False
        """True once running handlers are being cancelled: their messages go back, and their slots end."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.ending:
            with anyio.CancelScope(shield=True):
                await self.end()

    async def end(self) -> None:
        """Cancel every slot, and return once all have ended, after a few seconds at the latest.

        Cancelled once, as by a deadline: a handler may await what it needs to clean up. A thread cannot be cancelled.
        """
        self.ending = True
        tasks = set(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=ENDING_SECONDS)
            if left:
                log.warning("handlers that ignore their cancellation: %d", len(left))
