"""The quarantine: what may run beside a suspect in this process.

What runs in a cell is not in this process, and keeps nothing from starting. What must run alone waits until nothing else runs, and nothing else starts until its start stands no more. Beside a handler
that ignored its timeout nothing is alone, and it may never end: the message goes on to another process, or comes again later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import chain

import anyio

from runner.core import poison
from runner.jetstream.delivery import Delivery
from runner.jetstream.pull import Pull

POLL_SECONDS = 0.01
CROWDED_SECONDS = 5.0
"""Delay of a message that must run alone and cannot, for a handler that does not end."""


class Quarantine:
    """Who may start a handler in this process right now."""

    def __init__(self) -> None:
        self.closed = False
        """True while one message must run alone: no other message starts."""
        self.pulls: list[list[Pull]] = []
        """One list for each function: where its messages are until they are settled."""
        self.others: list[Callable[[], int]] = []
        """Each tells how many handlers run whose messages are in no pull: of requests."""
        self.abandoned: set[Delivery] = set()
        """Not in any pull any more, though their handlers may still run."""
        self.draining = False
        """True once everything that has not started goes back: no message waits any more."""
        self._lonely = 0
        self._turn = anyio.Lock()
        self._stages: list[int] = []
        self._opened = anyio.Event()

    def abandon(self, deliveries: Iterable[Delivery]) -> None:
        """These are in no pull any more; those of them whose handlers run count until they have ended."""
        self.abandoned = {each for each in chain(self.abandoned, deliveries) if each.task is not None}

    @property
    def running(self) -> int:
        """Handlers that run now, those that were abandoned included; looked up only when a suspect must run alone."""
        unsettled = (each for pulls in self.pulls for pull in pulls for each in pull.unsettled.values())
        of_messages = sum(
            each.task is not None and not each.in_cell for each in chain(unsettled, self.abandoned)
        )
        return of_messages + sum(others() for others in self.others)

    @property
    def crowded(self) -> bool:
        """Whether nothing can be alone here, for a handler that ignored its timeout, or outlasts its shard."""
        self.abandon(())
        return bool(self.abandoned)

    async def wait_open(self) -> None:
        """Wait until others may start again."""
        while self.closed:
            await self._opened.wait()

    @asynccontextmanager
    async def enter(self, stage: int) -> AsyncIterator[bool]:
        """Hold this while a message of that stage runs; False when it must run alone, and cannot here."""
        lonely = 0
        try:
            async with self._turn:  # one suspect waits, and every later one behind it, so none waits for ever
                if stage >= poison.ALONE:
                    lonely = 1
                    self._lonely += 1
                    self.closed = True
                while not (
                    self.draining
                    or (lonely and self.crowded)
                    or poison.may_start(
                        stage,
                        # One that was let in counts before its handler runs: its start is being recorded.
                        running=self.running + len(self._stages),
                        highest=max(self._stages, default=poison.FREE),
                    )
                ):
                    await anyio.sleep(POLL_SECONDS)
                self._stages.append(stage)
            try:
                yield not (lonely and self.crowded)
            finally:
                self._stages.remove(stage)
        finally:
            self._lonely -= lonely
            if lonely and not self._lonely:
                self.closed = False
                opened, self._opened = self._opened, anyio.Event()
                opened.set()
