"""Deadlines: what runs longer than its asker waits, or than its function may take, is ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

from runner.services.request import Request

LOOK_SECONDS = 0.025
GRACE_SECONDS = 1.0
"""Time a cancelled handler has to end before its asker is told without it."""

clock = time.monotonic


class Slot:
    """A task, and the request whose handler runs in it."""

    __slots__ = ("request", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.request: Request | None = None


class Deadlines:
    """Of one function; looked at 40 times a second while anything runs."""

    def __init__(self, slots: Collection[Slot], held: Callable[[Request], None], *, threaded: bool) -> None:
        """`held` is told once of a request whose handler goes on all the same; of a thread that is every one."""
        self.looking = False
        self._slots = slots
        self._held = held
        self._threaded = threaded
        self._loop = asyncio.get_running_loop()

    def look_soon(self) -> None:
        """Something runs."""
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
