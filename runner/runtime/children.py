"""The processes in which handlers with `executor="process"` run: one message at a time in each, started when needed.

A child is a cell that is kept: it imports the project's code, runs its lifespan, and ends with this process. Its priority is lower:
if there is less than one core for each process, a computing handler then does not delay messages in this process's event loop
(measured: `benchmarks/beside.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
from msgspec import structs

from runner.errors import UsageError
from runner.jetstream.concurrent import gather
from runner.runtime.cell import CLOSE_SECONDS, Cell, Missing
from runner.runtime.cellline import CellSetup

log = logging.getLogger("jetrunner.children")

NICENESS = 10


class Children:
    """The children of a process. Every function has slots of its own, so there are never more children than slots."""

    def __init__(self, setup: CellSetup) -> None:
        self._setup = structs.replace(setup, niceness=NICENESS)
        self._idle: list[Cell] = []
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """In a test, start the first child at once, so that an error shows before a message waits for the child. Raises UsageError."""
        if self._setup.given is not None:
            try:
                self._idle.append(await Cell.start(self._setup))
            except Missing as error:
                raise UsageError(
                    f'no process for executor="process" can begin: {error}',
                    hint="processes=False runs these handlers in the test's own process",
                ) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await gather(*(child.end(CLOSE_SECONDS) for child in self._idle))

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Cell]:
        """A child for one message. Raises `Missing` if none can be started."""
        child = await self._take()
        try:
            yield child
        finally:
            if child.running:
                self._idle.append(child)

    async def _take(self) -> Cell:
        if child := await self._free():
            return child
        async with self._starting:  # one at a time: another child may become free meanwhile
            if child := await self._free():
                return child
            child = await Cell.start(self._setup)
        log.info("a process for handlers has started (pid %d)", child.pid)
        return child

    async def _free(self) -> Cell | None:
        while self._idle:
            child = self._idle.pop()
            if child.running:
                return child
            await child.end(0)  # it has died while idle: this closes its socket
        return None
