"""The queue between arrival and slots: who is woken, and what goes back when the process drains."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from anyio.abc import TaskGroup

from runner.jetstream.delivery import Delivery, Source


class Queue:
    """Deliveries that wait for a slot; slots are opened as they are needed, up to `slots`."""

    lingers = sated = False
    """Nothing waits here for more messages, nor are there too many."""

    def __init__(self, tasks: TaskGroup, open_slot: Callable[[], None], slots: int) -> None:
        self.deliveries: deque[Delivery] = deque()
        self.giving_back = False
        """True once the process drains: what has not started goes back, but for what is worked off."""
        self.working_off = False
        """Whether what comes for the first time still runs while the process drains."""
        self._tasks = tasks
        self._open_slot = open_slot
        self._closed_slots = slots
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._pumping = False
        self._paused = False
        self._burst = 1
        self._loop = asyncio.get_running_loop()

    def arrive(self, delivery: Delivery) -> None:
        """Take a delivery, from within the read that brought it."""
        if self.giving_back and (delivery.careful or not self.working_off):
            delivery.source.give_back(delivery)
            return
        self.deliveries.append(delivery)
        if not self._pumping:
            self._start_pump()

    def return_here(self, delivery: Delivery) -> None:
        """`arrive` for a message that was sent back to this function: its headers tell where it stands in the stream."""
        delivery.careful = True
        self.arrive(delivery)

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

    def work_off(self) -> None:
        """From now on only messages at their first delivery start here; the others go back, as they may take long."""
        self.giving_back = self.working_off = True
        self._return([each for each in self.deliveries if each.careful])

    def give_back(self) -> None:
        """Return everything that has not started, and from now on whatever still arrives."""
        self.giving_back, self.working_off = True, False
        self._return(list(self.deliveries))

    def give_back_newest(self, source: Source, count: int) -> None:
        """Return so many of one source's messages that came for the first time and have not started, the newest first."""
        if count > 0:
            here = [each for each in self.deliveries if each.source is source and not each.careful]
            self._return(here[-count:])

    def give_back_of(self, source: Source) -> None:
        """Return what has come from one source and has not started."""
        self._return([each for each in self.deliveries if each.source is source])

    def forget(self, source: Source) -> set[int]:
        """Drop what has come from one source and has not started; its sequences."""
        forgotten = {each.sequence for each in self.deliveries if each.source is source}
        kept = [each for each in self.deliveries if each.source is not source]
        self.deliveries.clear()
        self.deliveries.extend(kept)
        return forgotten

    def _return(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self.deliveries.remove(delivery)
            delivery.source.give_back(delivery)

    def _pump(self) -> None:
        """Wake slots while deliveries wait: one at first, since handlers that never wait need no second."""
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
