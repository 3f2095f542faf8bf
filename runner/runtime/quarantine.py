"""The quarantine: which handlers may run beside a suspect in this process.

A suspect in a cell is not in this process, and delays no other message. A suspect that must run alone waits until nothing else
runs; then nothing else starts until its start record is gone. While a handler runs on after its timeout, no suspect can run alone,
and that handler may never end: the suspect then goes to another process, or comes again later.
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
"""Delay of a message that must run alone and cannot, because a handler does not end."""


class Quarantine:
    """Decides which message may start in this process now."""

    def __init__(self) -> None:
        self.closed = False
        """True while a message must run alone: no other message starts."""
        self.pulls: list[list[Pull]] = []
        """The pulls that hold unsettled messages, in one list for each function."""
        self.others: list[Callable[[], int]] = []
        """Each function gives the number of running handlers without a message in a pull: those of requests."""
        self.abandoned: set[Delivery] = set()
        """Messages that are in no pull any more, though their handlers may still run."""
        self.draining = False
        """True once all messages that have not started go back: none waits any more."""
        self._lonely = 0
        self._turn = anyio.Lock()
        self._stages: list[int] = []
        self._opened = anyio.Event()

    def abandon(self, deliveries: Iterable[Delivery]) -> None:
        """Note messages that are in no pull any more; they count as running until their handlers have ended."""
        self.abandoned = {each for each in chain(self.abandoned, deliveries) if each.task is not None}

    @property
    def running(self) -> int:
        """How many handlers run now, including abandoned ones; computed only when a suspect must run alone."""
        unsettled = (each for pulls in self.pulls for pull in pulls for each in pull.unsettled.values())
        of_messages = sum(
            each.task is not None and not each.in_cell for each in chain(unsettled, self.abandoned)
        )
        return of_messages + sum(others() for others in self.others)

    @property
    def crowded(self) -> bool:
        """Whether no message can be alone here, because a handler ignored its timeout or outlasts its shard."""
        self.abandon(())
        return bool(self.abandoned)

    async def wait_open(self) -> None:
        """Wait until other messages may start again."""
        while self.closed:
            await self._opened.wait()

    @asynccontextmanager
    async def enter(self, stage: int) -> AsyncIterator[bool]:
        """Hold this while a message of that stage runs; gives False if the message must run alone and cannot here."""
        lonely = 0
        try:
            async with self._turn:  # the first suspect waits here, the later ones behind it
                if stage >= poison.ALONE:
                    lonely = 1
                    self._lonely += 1
                    self.closed = True
                while not (
                    self.draining
                    or (lonely and self.crowded)
                    or poison.may_start(
                        stage,
                        # A message that was let in counts as running at once: its start is still being recorded.
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
