"""Reload: a worker that is replaced whenever the project's files change.

Rule 1: the next worker first imports the code and finds every function's stream. The running one is drained only if that
        succeeds, so a mistake in a file is shown and the last good version goes on.
Rule 2: a worker that dies by itself is started again after a pause. If a worker could not start, the next start is at the next
        change of a file; without a watch the command ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import anyio
from msgspec import Struct, structs

from runner.errors import UsageError
from runner.process.watch import Watch
from runner.runtime.stop import Stop, unless
from runner.runtime.supervisor import GRACE_SECONDS, HOPELESS, Pause, Worker, cause

T = TypeVar("T")

log = logging.getLogger("jetrunner.reload")

# Python tells source files apart by size and whole seconds: an edit right after another would run as the old code.
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}


class WorkerStart(Struct, frozen=True):
    """How a worker is started."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    """Variables that are added to those of this process."""
    descriptors: Sequence[int] = ()
    """Descriptors of sockets that the worker inherits."""


class Reloader:
    """Keeps one worker running on the code as the files have it."""

    def __init__(
        self,
        start: WorkerStart,
        *,
        watch: Watch | None,
        prepare: Callable[[], Awaitable[bool]],
        told: Callable[[str], None],
        drain_timeout: float,
    ) -> None:
        """Without `watch` nothing reloads. `prepare` is awaited before each start; False prevents it. `told` gets sentences."""
        self._watch = watch
        self._start = structs.replace(start, environment={**ENVIRONMENT, **start.environment})
        self._prepare = prepare
        self._told = told
        self._patience = drain_timeout + GRACE_SECONDS
        self._changed = asyncio.Event()
        self._worker: Worker | None = None
        self._next: Worker | None = None
        self._pause = Pause()

    async def run(self, stop: Stop) -> None:
        """Run until `stop` asks to drain. Raises UsageError when no worker runs, and no files are watched."""
        async with anyio.create_task_group() as tasks:
            if self._watch is not None:
                tasks.start_soon(self._watch.run, self._note)
            tasks.start_soon(self._keep)
            tasks.start_soon(self._hurry, stop)
            await stop.draining.wait()
            for worker in (self._next, self._worker):
                if worker is not None and worker.running:
                    await worker.drain(self._patience)
            tasks.cancel_scope.cancel()

    def kill(self) -> None:
        """Kill the workers at once."""
        for worker in (self._next, self._worker):
            if worker is not None:
                worker.kill()

    async def _hurry(self, stop: Stop) -> None:
        await stop.cancelling.wait()
        if self._worker is not None:
            self._worker.terminate()

    async def _keep(self) -> None:
        while True:
            self._changed.clear()
            started = time.monotonic()
            if await self._prepare() and await self._load():
                await self._swap(started)
            elif self._worker is not None and not self._changed.is_set():
                self._told("the last good version goes on")
            if self._worker is None:
                if self._watch is None:
                    raise UsageError(
                        "nothing runs", hint="mend what is told above, and start `runner dev` again"
                    )
                self._told("waiting for a change")
                await self._changed.wait()
                continue
            code = await self._unless_changed(self._worker.ended)
            if code is None:
                continue
            wait = self._pause.next(time.monotonic() - started)
            log.error(
                "the worker (pid %d) ended: %s; it starts again in %g s", self._worker.pid, cause(code), wait
            )
            self._worker = None
            with anyio.move_on_after(wait):
                await self._changed.wait()

    async def _load(self) -> bool:
        """Start the next worker as far as it may go beside the running one; False if it failed, or a file has changed meanwhile."""
        start = self._start
        self._next = worker = await Worker.start(start.arguments, start.environment, start.descriptors)
        loaded = await self._unless_changed(worker.loaded)
        if self._watch is not None:
            self._watch.also(worker.reads)
        if loaded:
            return True
        worker.kill()
        await worker.ended()
        self._next = None
        return False

    async def _swap(self, started: float) -> None:
        """Drain the running worker, and let the next one take over."""
        worker = self._next
        assert worker is not None
        if self._worker is not None and self._worker.running:
            await self._worker.drain(self._patience)
        self._worker, self._next = worker, None
        ready = await self._unless_changed(worker.go)
        if ready:
            self._told(f"ready in {time.monotonic() - started:.1f} s")
        elif ready is False and await worker.ended() in HOPELESS:
            self._worker = None

    async def _unless_changed(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """The result of `work`; None if a file changes before."""
        return await unless(self._changed, work)

    def _note(self, names: Sequence[str]) -> None:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        self._told(f"{names[0]}{more} changed")
        self._changed.set()
