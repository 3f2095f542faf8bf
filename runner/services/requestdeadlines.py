"""Deadlines: a handler is cancelled when its asker no longer waits, or when its function's timeout has passed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

from runner.services.request import Request

LOOK_SECONDS = 0.025
GRACE_SECONDS = 1.0
"""Time that a cancelled handler has to end before its asker gets an answer without it."""

clock = time.monotonic


class Slot:
    """A task, and the request whose handler runs in it."""

    __slots__ = ("request", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.request: Request | None = None


class RequestDeadlines:
    """The deadlines of one function's requests; checked 40 times a second while a request runs."""

    def __init__(self, slots: Collection[Slot], held: Callable[[Request], None], *, threaded: bool) -> None:
        """`held` is called once for each request whose handler goes on after its time; in a thread every late handler does."""
        self.looking = False
        self._slots = slots
        self._held = held
        self._threaded = threaded
        self._loop = asyncio.get_running_loop()

    def look_soon(self) -> None:
        """Check the deadlines soon, because a handler runs."""
        self.looking = True
        self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self.looking = False
        now = clock()
        for slot in tuple(self._slots):
            request = slot.request
            if request is None:
                continue
            if not self.looking:
                self.look_soon()
            if now < request.until or request.answered:
                continue
            if self._threaded or now >= request.until + GRACE_SECONDS:
                request.late = True
                self._held(request)
            elif not request.late:
                request.late = True
                slot.task.cancel()
