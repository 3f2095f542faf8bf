"""The wish to stop: the first drains, the second cancels what still runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import anyio

log = logging.getLogger("jetrunner")

T = TypeVar("T")


class Stop:
    """Asked from a signal handler; safe to ask more often than twice."""

    def __init__(self, ending: Callable[[int], None] = lambda code: None) -> None:
        """`ending` is called with the exit code when nothing is left to do but to close."""
        self.ending = ending
        self.draining = asyncio.Event()
        self.cancelling = asyncio.Event()

    def request(self) -> None:
        """Ask to stop; asked again, ask to hurry."""
        if self.draining.is_set():
            self.cancelling.set()
        self.draining.set()

    def drain(self) -> None:
        """Ask to stop, however often: this one never hurries."""
        self.draining.set()


async def unless(event: asyncio.Event, work: Callable[[], Awaitable[T]]) -> T | None:
    """The result of `work`; None when the event happens before."""
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
    """Do all of it at the same time; one that fails is told in the log, and ends none of the others."""

    async def one(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            await work()
        except Exception:  # whatever it is, a drain goes on
            log.exception("a step of the drain has failed; it goes on without it")

    async with anyio.create_task_group() as tasks:
        for work in works:
            tasks.start_soon(one, work)
