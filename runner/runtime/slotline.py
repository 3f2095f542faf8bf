"""The line before a function's slots: messages and requests wait in it, and slots are woken for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from anyio.abc import TaskGroup

T = TypeVar("T")


class SlotLine(Generic[T]):
    """The line of one function; slots are opened when needed, up to `slots`."""

    def __init__(self, tasks: TaskGroup, open_slot: Callable[[], None], slots: int) -> None:
        self.deliveries: deque[T] = deque()
        self._tasks = tasks
        self._open_slot = open_slot
        self._closed_slots = slots
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.pumping = False
        """Whether slots are being woken."""
        self._paused = False
        self._burst = 1
        self._loop = asyncio.get_running_loop()

    def join(self, delivery: T) -> None:
        """Let a delivery wait for a slot; called while the data that brought it is read."""
        self.deliveries.append(delivery)
        if not self.pumping:
            self.start_pump()

    def rejoin(self, deliveries: Sequence[T]) -> None:
        """Put back deliveries that a slot has taken but does not run; they go before all others."""
        self.deliveries.extendleft(reversed(deliveries))
        if not self.pumping:
            self.start_pump()

    def pause(self, until: Callable[[], Awaitable[None]]) -> None:
        """Start nothing until `until` returns; one task waits for that, not every slot."""
        if not self._paused:
            self._paused = True
            self._tasks.start_soon(self._resume, until)

    async def _resume(self, until: Callable[[], Awaitable[None]]) -> None:
        await until()
        self._paused = False
        if self.deliveries and not self.pumping:
            self.start_pump()

    def start_pump(self) -> None:
        """Begin to wake slots; called when deliveries wait and no slots are being woken."""
        self.pumping = True
        self._burst = 1
        self._wake()
        self._loop.call_soon(self._pump)

    async def wait(self) -> None:
        """Wait until there may be something to do; called by a slot."""
        future = self._loop.create_future()
        self._waiting.append(future)
        await future

    def _pump(self) -> None:
        """Wake slots while deliveries wait: first one, then twice as many each turn, as handlers that never wait need no second slot."""
        if self._paused:
            self.pumping = False
            return
        for _ in range(min(len(self.deliveries), self._burst)):
            if not self._wake():
                self.pumping = False
                return
        self._burst *= 2
        if self.deliveries:
            self._loop.call_soon(self._pump)
        else:
            self.pumping = False

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
