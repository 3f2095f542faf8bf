"""A cell: a process of its own that runs one suspect at a time. This module is the side of the process that has started it.

Rule 1: if a cell dies with a message in it, the message counts as the cause, because nothing else runs there. If this process dies,
        too, the death does not count: no process is left to report it.
Rule 2: a cell ends with this process, however this process ends, before another process could start the cell's message.
Rule 3: a message whose cell has died once gets a cell that has run nothing before.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import anyio

from runner.core import identity
from runner.jetstream import fork
from runner.runtime.cellline import Begun, CellLine, CellSetup, Job, Late, Ready, Report, UnfitCell
from runner.runtime.supervisor import cause

log = logging.getLogger("jetrunner.cells")

MOST = 4
"""Most cells of a process at a time; further messages wait for one."""
POLL_SECONDS = 0.02
START_SECONDS = 30.0
END_SECONDS = 0.5
"""Time that a cancelled handler has to clean up."""
CLOSE_SECONDS = 2.0
"""Time that a cell has for the end of its lifespan."""
IDLE_SECONDS = 5.0
"""How long an idle cell is kept for the next message."""
ALIVE_SECONDS = 0.5
"""How long this process must outlive a cell for the cell's death to count: an event that kills both kills them within that time."""


class Died(Exception):  # noqa: N818  # an error is named by what happened
    """The cell died with the message in it."""

    def __init__(self, cell: str, cause: str) -> None:
        super().__init__(cause)
        self.cell = cell
        """The cell's name."""


class DiedBefore(Died):
    """The cell died before it took the message: the cause came while the cell waited."""


class Missing(Exception):  # noqa: N818  # an error is named by what happened
    """There is no cell, or none that can run this message; the handler has not started."""


class NoFreeCell(Exception):  # noqa: N818  # an error is named by what happened
    """No cell was free while the message might still start here; the handler has not started."""


class Cell:
    """One cell, as the process that has started it sees it."""

    def __init__(self, process: asyncio.subprocess.Process, line: CellLine, end: socket.socket) -> None:
        self.name = identity.instance(socket.gethostname(), process.pid, os.urandom(4).hex())
        self.used = False
        """Whether the cell has run a message."""
        self._process = process
        self._line = line
        self._held = ExitStack()
        self._held.enter_context(fork.ours(end.fileno))

    @classmethod
    async def start(cls, setup: CellSetup) -> Cell:
        """Start a cell, and wait until its code is imported. Raises `Missing`."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "runner", "run", "--cell", str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                )  # fmt: skip
            except OSError as error:
                ours.close()
                raise Missing(f"no process can be started: {error.strerror}") from None
        cell = cls(process, await CellLine.open(ours), ours)
        try:
            await cell._begin(setup)
        except BaseException:
            await cell.end(0)
            raise
        return cell

    async def _begin(self, setup: CellSetup) -> None:
        await self._line.send(setup)
        with anyio.move_on_after(START_SECONDS):
            word = await self._line.receive()
            if isinstance(word, Ready):
                return
            raise Missing(word.why if isinstance(word, UnfitCell) else "its process ended while it began")
        raise Missing(f"its process has not begun within {START_SECONDS:g} s")

    @property
    def pid(self) -> int:
        """The cell's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the cell's process lives."""
        return self._process.returncode is None

    async def run(self, job: Job) -> Report | Late:
        """Run a message. If this call is cancelled, the handler is cancelled, too. Raises `Died` and `Missing`.

        If a new cell dies before it takes its first message, that message still counts as the cause: it may be one that cannot be
        read.
        """
        before, self.used = self.used, True
        begun = False
        try:
            await self._line.send(job)
            word = await self._line.receive()
            if isinstance(word, Begun):
                begun = True
                word = await self._line.receive()
        except BaseException:
            await self.end(END_SECONDS)
            raise
        if isinstance(word, (Report, Late)):
            return word
        if isinstance(word, UnfitCell):
            raise Missing(word.why)
        await self.end(END_SECONDS)
        died = DiedBefore if before and not begun else Died
        raise died(self.name, cause(self._process.returncode or 0))

    async def end(self, patience: float) -> None:
        """End the cell; it is killed after `patience` seconds. The process is gone when this returns."""
        self._line.close()
        try:
            with anyio.CancelScope(shield=True), anyio.move_on_after(patience):
                await self._process.wait()
        finally:
            if self.running:
                self._process.kill()
            self._held.close()
        with anyio.CancelScope(shield=True):
            await self._process.wait()


class Cells:
    """The cells of a process. The first is started when it is needed, and all end with the process."""

    def __init__(self, setup: CellSetup, ending: Callable[[], bool]) -> None:
        """`ending` tells whether the process was asked to end: then the death of a cell does not count."""
        self._setup = setup
        self._ending = ending
        self._taken = 0
        self._idle: dict[Cell, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[Any]] = set()
        self._told = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            for cell in list(self._idle):
                self._retire(cell)
            if self._closing:
                await asyncio.wait(self._closing)

    @asynccontextmanager
    async def one(self, given_up: Callable[[], bool], *, fresh: bool) -> AsyncIterator[Cell]:
        """A cell for one message; with `fresh` one that has run nothing before. Raises `Missing` and `NoFreeCell`."""
        while self._taken >= MOST:
            if given_up():
                raise NoFreeCell
            await asyncio.sleep(POLL_SECONDS)
        self._taken += 1
        try:
            cell = await self._take(fresh=fresh)
            try:
                yield cell
            finally:
                if cell.running:
                    later = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._retire, cell)
                    self._idle[cell] = later
        finally:
            self._taken -= 1

    async def _take(self, *, fresh: bool) -> Cell:
        for cell in list(self._idle):
            if cell.running and not (fresh and cell.used):
                self._idle.pop(cell).cancel()
                return cell
            self._retire(cell)
        cell = await Cell.start(self._setup)
        log.info("messages that may have killed their process run in a separate process (pid %d)", cell.pid)
        return cell

    def miss(self, why: str) -> None:
        """Log why a suspect does not run in a process of its own; the same reason only once in a row."""
        if why != self._told:
            self._told = why
            log.warning("no separate process can start for a message that may kill its process: %s", why)

    async def is_witness(self) -> bool:
        """Whether this process outlives the death of a cell by 0.5 s, and was not asked to end."""
        await asyncio.sleep(ALIVE_SECONDS)
        return not self._ending()

    def _retire(self, cell: Cell) -> None:
        """Let an idle cell end by itself."""
        self._idle.pop(cell).cancel()
        task = asyncio.get_running_loop().create_task(cell.end(CLOSE_SECONDS))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
