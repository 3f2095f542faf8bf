"""The line before a function's slots: what waits for one, and who is woken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from anyio.abc import TaskGroup

T = TypeVar("T")


class Line(Generic[T]):
    """What waits for a slot; slots are opened as they are needed, up to `slots`."""

    def __init__(self, tasks: TaskGroup, open_slot: Callable[[], None], slots: int) -> None:
        self.deliveries: deque[T] = deque()
        self._tasks = tasks
        self._open_slot = open_slot
        self._closed_slots = slots
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._pumping = False
        self._paused = False
        self._burst = 1
        self._loop = asyncio.get_running_loop()

    def join(self, delivery: T) -> None:
        """Let it wait, from within the read that brought it."""
        self.deliveries.append(delivery)
        if not self._pumping:
            self._start_pump()

    def rejoin(self, deliveries: Sequence[T]) -> None:
        """Let these wait that a slot has taken and does not run: before all others, for the next slot."""
        self.deliveries.extendleft(reversed(deliveries))
        if not self._pumping:
            self._start_pump()

    def pause(self, until: Callable[[], Awaitable[None]]) -> None:
        """Nothing may start now: one waits `until` it may, not every slot."""
        if not self._paused:
            self._paused = True
            self._tasks.start_soon(self._resume, until)

    async def _resume(self, until: Callable[[], Awaitable[None]]) -> None:
        await until()
        self._paused = False
        if self.deliveries and not self._pumping:
            self._start_pump()

    def _start_pump(self) -> None:
        self._pumping = True
        self._burst = 1
        self._wake()
        self._loop.call_soon(self._pump)

    async def wait(self) -> None:
        """Wait, as a slot, until there may be something to do."""
        future = self._loop.create_future()
        self._waiting.append(future)
        await future

    def _pump(self) -> None:
        """Wake slots while something waits: one at first, since handlers that never wait need no second."""
        if self._paused:
            self._pumping = False
            return
        for _ in range(min(len(self.deliveries), self._burst)):
            if not self._wake():
                self._pumping = False
                return
        self._burst *= 2
        if self.deliveries:
            self._loop.call_soon(self._pump)
        else:
            self._pumping = False

    def _wake(self) -> bool:
        waiting = self._waiting
        while waiting:
            future = waiting.popleft()
            if not future.done():
                future.set_result(None)
                return True
        if self._closed_slots:
            self._closed_slots -= 1
            self._open_slot()
            return True
        return False
