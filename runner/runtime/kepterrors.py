"""Errors of attempts that are to be retried, kept in a stream of ours: they outlive the instance, and nothing waits for them.

Rule 1: one record a message and function, the last one; the stream drops the oldest of too many, and what is a week old.
Rule 2: a process keeps 100 a second at most. What is over that, or cannot be stored, is counted and told, never waited for.
Rule 3: what is hidden of a message is not in them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter

import anyio
from anyio.abc import TaskGroup

from runner.core import identity, kepterror
from runner.core.kepterror import KeptError
from runner.errors import NoStream, PermissionDenied
from runner.jetstream import ownstreams
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.ownstreams import ERRORS

log = logging.getLogger("jetrunner.errors")

A_SECOND = 100
MOST_WAITING = 200
"""So many records wait for the server at most."""
REFUSED_SECONDS = 60.0
"""Nothing is tried for so long once the stream is not there and cannot be made, or the credentials do not allow it."""


class KeptErrors:
    """Those of one process."""

    def __init__(self, connection: Connection, project: str, tasks: TaskGroup) -> None:
        self._connection = connection
        self._project = project
        self._tasks = tasks
        self._waiting: dict[str, bytes] = {}
        """By their subjects."""
        self._functions: dict[str, str] = {}
        self._writing = False
        self._tokens, self._refilled = float(A_SECOND), time.monotonic()
        self._not_before = 0.0
        self._told = False
        """Whether the log says that errors are not kept."""
        self._making = anyio.Lock()
        self.unkept: Counter[str] = Counter()
        """Errors that were not kept, by function."""

    def admit(self, function: str) -> bool:
        """Whether one more may be kept now; else it is counted."""
        now = time.monotonic()
        self._tokens = min(A_SECOND, self._tokens + (now - self._refilled) * A_SECOND)
        self._refilled = now
        if self._tokens < 1 or now < self._not_before or len(self._waiting) >= MOST_WAITING:
            self.unkept[function] += 1
            return False
        self._tokens -= 1
        return True

    def keep(self, function: str, stream: str, sequence: int, error: KeptError) -> None:
        """Keep one that was admitted; returns at once."""
        subject = identity.error_subject(self._project, function, stream, sequence)
        self._waiting[subject] = kepterror.encode(error)
        self._functions[subject] = function
        if not self._writing:
            self._writing = True
            self._tasks.start_soon(self._write)

    async def _write(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, {}
                await map_concurrently(lambda each: self._store(*each), list(taken.items()))
        finally:
            self._writing = False

    async def _store(self, subject: str, body: bytes) -> None:
        function = self._functions.pop(subject, "")
        try:
            if time.monotonic() < self._not_before:
                self.unkept[function] += 1
                return
            try:
                await self._connection.publisher.publish(subject, body)
            except NoStream:
                await self._made(subject, body)
            self._told = False
        except Exception as error:  # noqa: BLE001  whatever it is, the message goes on
            self.unkept[function] += 1
            if isinstance(error, PermissionDenied):
                self._refused(error)
            log.debug("%s: an error is not kept: %s", function, error)

    async def _made(self, subject: str, body: bytes) -> None:
        """Publish after the stream was made: one at a time, for the others wait for what the first one finds."""
        async with self._making:
            if time.monotonic() < self._not_before:
                raise NoStream(f"stream {ERRORS} is not there")
            try:
                await ownstreams.ensure(self._connection, ERRORS, must=True)
                await self._connection.publisher.publish(subject, body)
            except Exception as error:
                self._refused(error)
                raise

    def _refused(self, error: Exception) -> None:
        """Try nothing for a while; the log tells it once, until something is kept again."""
        self._not_before = time.monotonic() + REFUSED_SECONDS
        if not self._told:
            self._told = True
            log.warning("what attempts to be retried have failed with is not kept: %s", error)
