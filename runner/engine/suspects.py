"""Suspects: messages that may be what killed a process, and how far one has come.

From its second delivery on, a message's start is recorded before its handler runs and dropped when it is settled. A start
found unsettled means that the process died, or was cut off, while it ran: it then runs with no other suspect beside
it, next with nothing at all beside it in its process, and when it dies even so it is a dead letter, `crashed`.
Beside a handler that ignored its timeout nothing is alone, and it may never end: the message goes on to another process,
or comes again later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain

import anyio

from runner.core import suspect
from runner.errors import PermissionDenied
from runner.jetstream.bucket import Bucket
from runner.jetstream.delivery import Delivery
from runner.jetstream.pull import Pull

POLL_SECONDS = 0.01
CROWDED_SECONDS = 5.0
"""Delay of a message that must run alone and cannot, for a handler that does not end."""


class Isolation:
    """Who may start a handler in this process right now."""

    def __init__(self) -> None:
        self.closed = False
        """True while one message must run alone: nobody else starts."""
        self.pulls: list[list[Pull]] = []
        """One list for each function: where its messages are until they are settled."""
        self.abandoned: set[Delivery] = set()
        """Settled without their handlers, which ignored their timeout and may still run."""
        self.draining = False
        """True once everything that has not started goes back: nobody waits any more."""
        self._lonely = 0
        self._turn = anyio.Lock()
        self._stages: list[int] = []
        self._opened = anyio.Event()

    @property
    def running(self) -> int:
        """Handlers that run now, those that were abandoned included; looked up only when a suspect must run alone."""
        unsettled = (each for pulls in self.pulls for pull in pulls for each in pull.unsettled.values())
        return sum(each.task is not None for each in chain(unsettled, self.abandoned))

    @property
    def crowded(self) -> bool:
        """Whether nothing can be alone here, for a handler that ignored its timeout."""
        self.abandoned = {each for each in self.abandoned if each.task is not None}
        return bool(self.abandoned)

    async def wait_open(self) -> None:
        """Wait until others may start again."""
        while self.closed:
            await self._opened.wait()

    @asynccontextmanager
    async def enter(self, stage: int) -> AsyncIterator[bool]:
        """Hold this while a message of that stage runs; False when it must run alone, and cannot here."""
        if stage == suspect.FREE:
            yield True
            return
        lonely = 0
        try:
            async with self._turn:  # one suspect waits, and every later one behind it: nobody waits for ever
                if stage >= suspect.ALONE:
                    lonely = 1
                    self._lonely += 1
                    self.closed = True
                while not (
                    self.draining
                    or (lonely and self.crowded)
                    or suspect.may_start(
                        stage,
                        # One that was let in counts before its handler runs: its start is being recorded.
                        running=self.running + len(self._stages),
                        suspects=len(self._stages),
                        highest=max(self._stages, default=suspect.FREE),
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


class Suspects:
    """The recorded starts of one function's messages."""

    def __init__(self, bucket: Bucket, project: str, function: str) -> None:
        self._bucket = bucket
        self._prefix = f"start.{project}.{function}."

    async def stage(self, stream: str, sequence: int) -> int:
        """How far the message has come; 0 without a record. Read from the leader: an old one would be blamed on it."""
        value = await self._bucket.latest(self._key(stream, sequence))
        return int(value) if value and value.isdigit() else 0

    async def record(self, stream: str, sequence: int, stage: int) -> None:
        """The start is stored when this returns."""
        await self._bucket.put(self._key(stream, sequence), b"%d" % stage)

    async def drop(self, stream: str, sequence: int) -> None:
        """It is settled: nothing is held against it."""
        try:
            await self._bucket.drop(self._key(stream, sequence))
        except PermissionDenied:  # to purge; a record of nothing says the same
            await self.record(stream, sequence, suspect.FREE)

    def _key(self, stream: str, sequence: int) -> str:
        return f"{self._prefix}{stream}.{sequence}"
