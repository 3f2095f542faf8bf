"""The wish to stop: the first request drains, the second cancels running handlers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import anyio

log = logging.getLogger("jetrunner")

T = TypeVar("T")


class Stop:
    """Stops a process. A signal handler may call it, more than twice, too."""

    def __init__(self, ending: Callable[[int], None] = lambda code: None) -> None:
        """`ending` is called with the exit code when only closing is left to do."""
        self.ending = ending
        self.draining = asyncio.Event()
        self.cancelling = asyncio.Event()

    def request(self) -> None:
        """Ask to stop; a second call asks to hurry."""
        if self.draining.is_set():
            self.cancelling.set()
        self.draining.set()

    def drain(self) -> None:
        """Ask to stop; any number of calls never asks to hurry."""
        self.draining.set()


async def unless(event: asyncio.Event, work: Callable[[], Awaitable[T]]) -> T | None:
    """The result of `work`; None if the event is set before."""
    result: T | None = None
    async with anyio.create_task_group() as tasks:

        async def give_up() -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(give_up)
        result = await work()
        tasks.cancel_scope.cancel()
    return result


async def together(works: Iterable[Callable[[], Coroutine[Any, Any, object]]]) -> None:
    """Run all at the same time; an error of one is logged, and does not end the others."""

    async def one(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            await work()
        except Exception:  # whatever the error is, the drain continues
            log.exception("a step of the drain has failed; the next steps follow")

    async with anyio.create_task_group() as tasks:
        for work in works:
            tasks.start_soon(one, work)
