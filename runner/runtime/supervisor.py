"""Worker processes: the supervisor starts them, watches them, restarts those that die, and drains them together.

Rule 1: if a worker ends with exit code 2 or 3 before any was ready, all end: a restart would not help. The first worker finds that
        out, and the others start once it has loaded.
Rule 2: after any other end the cause is logged, and the worker starts again after 0.1 s, then twice as long each time, up to 10 s.
        If it ran for 10 s, the pause is 0.1 s again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import anyio

from runner.runtime.stop import Stop, unless
from runner.runtime.worker import GO, LOADED, READS, READY, STOP

log = logging.getLogger("jetrunner.workers")

FIRST_WAIT = 0.1
LONGEST_WAIT = 10.0
STEADY_SECONDS = 10.0
"""A worker that ran for so long is able to start: its next pause is the shortest."""
GRACE_SECONDS = 13.0
"""Time in addition to the drain timeout before a worker that does not end is killed."""
HOPELESS = frozenset({2, 3})


class Pause:
    """The pause before a worker starts again."""

    def __init__(self) -> None:
        self._wait = FIRST_WAIT

    def next(self, lived: float) -> float:
        """Seconds to wait after a worker that ran for `lived` seconds."""
        if lived >= STEADY_SECONDS:
            self._wait = FIRST_WAIT
        wait, self._wait = self._wait, min(LONGEST_WAIT, self._wait * 2)
        return wait


class Worker:
    """One `runner` process with a line to this one."""

    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        self.is_loaded = False
        self.is_ready = False
        self.reads: list[str] = []
        """Folders outside the project that the worker has imported code from, as far as it has said."""
        self._process = process
        self._line = line
        self._words = b""

    @classmethod
    async def start(
        cls,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> Worker:
        """Start `runner <arguments>`; it loads its code, and then waits for `go`.

        `environment` is added to ours, and `descriptors` are handed on.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a file runner.py in the project's folder is not us
                "-m",
                "runner",
                *arguments,
                "--parent",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *descriptors),
                env={**os.environ, **(environment or {})},
            )
        ours.setblocking(False)
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the worker has not ended yet."""
        return self._process.returncode is None

    async def loaded(self) -> bool:
        """Wait until its code is imported and its functions have their streams; False if it has ended instead."""
        self.is_loaded = await self._said(LOADED)
        return self.is_loaded

    async def go(self) -> bool:
        """Let the worker take messages, and wait until it does; False if it has ended instead."""
        with suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self._line, GO)
        self.is_ready = await self._said(READY)
        return self.is_ready

    async def ended(self) -> int:
        """The worker's exit code; minus the number of the signal if a signal killed it."""
        code = await self._process.wait()
        self._line.close()
        return code

    def terminate(self) -> None:
        """Ask the worker to drain; a second call asks it to cancel."""
        if self.running and not self.is_loaded:
            self.kill()  # it still imports: it holds no message, and does not listen yet
        elif self.running:
            with suppress(OSError):
                self._line.send(STOP)

    def kill(self) -> None:
        """Kill the worker at once."""
        if self.running:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def drain(self, patience: float) -> int:
        """Ask the worker to end, and kill it after `patience` seconds; gives its exit code."""
        self.terminate()
        with anyio.move_on_after(patience):
            return await self.ended()
        log.error("worker %d does not end; it is killed", self.pid)
        self.kill()
        return await self.ended()

    async def _said(self, word: bytes) -> bool:
        loop = asyncio.get_running_loop()
        while True:
            while b"\n" in self._words:
                said, end, self._words = self._words.partition(b"\n")
                if said.startswith(READS):
                    self.reads.append(os.fsdecode(said.removeprefix(READS)))
                elif said + end == word:
                    return True
            try:
                heard = await loop.sock_recv(self._line, 4096)
            except OSError:
                heard = b""
            if not heard:
                return False
            self._words += heard


class Supervisor:
    """Keeps `count` workers running; `command(number)` gives the arguments of each. `environment` is added to ours."""

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        count: int,
        drain_timeout: float,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self._command = command
        self._descriptors = descriptors
        self._environment = environment
        self._count = count
        self._patience = drain_timeout + GRACE_SECONDS
        self._workers: dict[int, Worker] = {}
        self._any_ready = False
        self._tried = asyncio.Event()
        """Set once the first worker has loaded, or has failed in a way that may not affect the others."""
        self._code = 0

    async def run(self, stop: Stop) -> int:
        """Run until `stop` is asked for; gives the exit code for all."""
        async with anyio.create_task_group() as tasks:
            for number in range(self._count):
                tasks.start_soon(self._keep, number, stop)
            tasks.start_soon(self._hurry, stop)
            await stop.draining.wait()
            await self._drain()
            tasks.cancel_scope.cancel()
        return self._code

    def kill(self) -> None:
        """Kill every worker at once."""
        for worker in self._workers.values():
            worker.kill()

    async def _drain(self) -> None:
        async def drain(worker: Worker) -> None:
            code = await worker.drain(self._patience)
            if code and worker.is_ready:
                log.error("worker %d: %s", worker.pid, cause(code))
                self._code = self._code or 1

        async with anyio.create_task_group() as tasks:
            for worker in self._workers.values():
                if worker.running:
                    tasks.start_soon(drain, worker)

    async def _hurry(self, stop: Stop) -> None:
        await stop.cancelling.wait()
        for worker in self._workers.values():
            worker.terminate()

    async def _keep(self, number: int, stop: Stop) -> None:
        pause = Pause()
        if number:
            await unless(stop.draining, self._tried.wait)
        while not stop.draining.is_set():
            started = time.monotonic()
            worker = self._workers[number] = await Worker.start(
                self._command(number), self._environment, self._descriptors
            )
            loaded = await worker.loaded()
            if loaded:
                self._tried.set()
            if loaded and await worker.go():
                self._any_ready = True
                log.info("worker %d of %d is ready (pid %d)", number + 1, self._count, worker.pid)
            code = await worker.ended()
            if stop.draining.is_set():
                return
            if code in HOPELESS and not self._any_ready:
                self._code = code
                stop.request()
                return
            self._tried.set()
            wait = pause.next(time.monotonic() - started)
            log.error(
                "worker %d of %d (pid %d) ended: %s; it starts again in %g s",
                number + 1, self._count, worker.pid, cause(code), wait,
            )  # fmt: skip
            with anyio.move_on_after(wait):
                await stop.draining.wait()


def cause(code: int) -> str:
    """An exit code in words: `SIGKILL` or `exit code 1`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
