"""Errors of attempts that will be retried, kept in a stream of ours: they outlive the instance, and no message waits for them.

Rule 1: the stream keeps only the last error of each message and function. It drops the oldest if there are too many, and all after
        a week.
Rule 2: a process keeps at most 100 errors a second. Any more, and those that cannot be stored, are counted and reported as not
        kept. While the stream has no leader, up to 200 and those that are being stored wait.
Rule 3: hidden values of a message are not in its kept errors.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter

import anyio
from anyio.abc import TaskGroup

from runner.core import identity, kepterror
from runner.core.kepterror import KeptError
from runner.errors import NoStream, PermissionDenied, ServerError
from runner.jetstream import ownstreams
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.ownstreams import ERRORS
from runner.jetstream.publisher import retry_until, unled

log = logging.getLogger("jetrunner.errors")

A_SECOND = 100
MOST_WAITING = 200
"""Most records that wait to be stored."""
REFUSED_SECONDS = 60.0
"""Pause after the stream was missing and could not be made, or the credentials did not allow to publish."""


class KeptErrors:
    """The kept errors of one process."""

    def __init__(self, connection: Connection, project: str, tasks: TaskGroup) -> None:
        self._connection = connection
        self._project = project
        self._tasks = tasks
        self._waiting: dict[str, bytes] = {}
        """Records that wait to be stored, by subject."""
        self._functions: dict[str, str] = {}
        self._writing = False
        self._tokens, self._refilled = float(A_SECOND), time.monotonic()
        self._not_before = 0.0
        self._told = False
        """Whether the log already says that errors are not kept."""
        self._making = anyio.Lock()
        self.unkept: Counter[str] = Counter()
        """Errors that were not kept, by function."""

    def admit(self, function: str) -> bool:
        """Whether one more error may be kept now; if not, it is counted as not kept."""
        now = time.monotonic()
        self._tokens = min(A_SECOND, self._tokens + (now - self._refilled) * A_SECOND)
        self._refilled = now
        if self._tokens < 1 or now < self._not_before or len(self._waiting) >= MOST_WAITING:
            self.unkept[function] += 1
            return False
        self._tokens -= 1
        return True

    def keep(self, function: str, stream: str, sequence: int, error: KeptError) -> None:
        """Keep an error that was admitted; returns at once."""
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
            except ServerError as error:
                if not unled(error) and not isinstance(error, NoStream):
                    raise
                await self._insist(subject, body)
            self._told = False
        except Exception as error:  # noqa: BLE001  whatever it is, the message goes on
            self.unkept[function] += 1
            if isinstance(error, PermissionDenied):
                self._refused(error)
            log.debug("%s: an error cannot be kept: %s", function, error)

    async def _insist(self, subject: str, body: bytes) -> None:
        """Make sure of the stream, then publish; while nobody answers, as in an election, that is tried again.

        One call at a time, so that the others see the first one's result.
        """

        async def once() -> None:
            await ownstreams.restore(self._connection, ERRORS, must=True)
            await self._connection.publisher.publish(subject, body)

        async with self._making:
            if time.monotonic() < self._not_before:
                raise NoStream(f"stream {ERRORS} is not there")
            try:
                await retry_until(once, math.inf, "errors of failed attempts", passes=unled)
            except Exception as error:
                self._refused(error)
                raise

    def _refused(self, error: Exception) -> None:
        """Keep no errors for a while; the log says so once, until an error is kept again."""
        self._not_before = time.monotonic() + REFUSED_SECONDS
        if not self._told:
            self._told = True
            log.warning("errors of failed attempts cannot be kept: %s", error)
