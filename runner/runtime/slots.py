"""The slots of a process: the tasks that handlers run in, and their end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

import anyio
from anyio.abc import TaskGroup

log = logging.getLogger("jetrunner")

SlotWork: TypeAlias = Callable[[asyncio.Task[Any]], Awaitable[None]]
"""What a slot runs in its task; returns when the process ends, or when the task must not be used again."""

ENDING_SECONDS = 3.0
"""Time that cancelled handlers get to clean up."""


class Slots:
    """The slots of all functions, as a context: entered after the lifespan has begun, left before resources of handlers are closed."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self.ending = False
        """True once running handlers are being cancelled: their messages go back, and their slots end."""
        self.context = Context()
        """The context variables after the lifespan has begun: every slot starts with these."""

    async def __aenter__(self) -> Self:
        self.context = copy_context()
        return self

    def open(self, tasks: TaskGroup, work: SlotWork, name: str) -> None:
        """Open a slot: a task without the context variables of the code that opens it."""
        self.context.copy().run(partial(tasks.start_soon, self._run, tasks, work, name, name=name))

    async def _run(self, tasks: TaskGroup, work: SlotWork, name: str) -> None:
        """Work until the process ends, or until a handler has left a context variable behind: then a new slot follows."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while not self.ending:
                try:
                    await work(task)
                    if not self.ending:
                        self.open(tasks, work, name)
                    return
                except asyncio.CancelledError:
                    if tasks.cancel_scope.cancel_called:
                        raise
                    if not self.ending:
                        # Somebody kept the task of a handler that has ended, and has cancelled the task now.
                        await clear_cancellation(task)
        finally:
            self.tasks.discard(task)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.ending:
            with anyio.CancelScope(shield=True):
                await self.end()

    async def end(self) -> None:
        """Cancel every slot; returns once all have ended, after 3 s at the latest.

        Each is cancelled once, as at a deadline: a handler may await its cleanup. A thread cannot be cancelled.
        """
        self.ending = True
        tasks = set(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=ENDING_SECONDS)
            if left:
                log.warning("handlers that ignore their cancellation and still run: %d", len(left))


async def clear_cancellation(task: asyncio.Task[Any]) -> None:
    """Clear the rest of a cancellation that was meant for the handler in a slot, not for the slot."""
    while task.cancelling():
        task.uncancel()
    # A cancellation that is requested but not delivered would hit the next await of the slot.
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
