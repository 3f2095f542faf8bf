"""The figures of each function for each minute, in the bucket: they outlive the instance that has written them.

Rule 1: nothing waits for a record. If one cannot be stored, its figures are part of the next.
Rule 2: without the right to write records there are none; the log tells so once, at the level debug.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio
import msgspec

from runner.core import minutes
from runner.core.minutes import Minute, MinuteRecord
from runner.errors import JetrunnerError, PermissionDenied
from runner.jetstream.connection import Connection
from runner.jetstream.kv import KV
from runner.pipeline.stats import Stats
from runner.process.function import Function
from runner.services.counts import Counts
from runner.services.responder import Responder

log = logging.getLogger("jetrunner.minutes")

LAST_SECONDS = 1.0
"""Longest wait of an ending process for its last record."""


class Minutes:
    """Writes the minutes of one instance."""

    def __init__(
        self,
        connection: Connection,
        project: str,
        instance: str,
        functions: Sequence[Function],
        responders: Sequence[Responder],
    ) -> None:
        self._connection = connection
        self._clock = connection.clock
        self._kv = KV(connection)
        self._project = project
        self._instance = instance
        self._functions = functions
        self._responders = responders
        self._written: dict[str, Minute] = {}
        """The figures since the start that the records have, by function."""
        self._last = 0
        """The minute of the last record: no record is overwritten."""
        self._may_write = True

    @property
    def number(self) -> int:
        """The number of the current minute, by the server's clock."""
        return int(self._clock.now() // minutes.SECONDS)

    def so_far(self) -> dict[str, Minute]:
        """The figures since the last record, by function."""
        return {name: since for name, (_, since) in self._figures().items() if since}

    def _figures(self) -> dict[str, tuple[Minute, Minute]]:
        """The figures since the start and since the last record, by function."""
        found = {each.binding.function: of(each.stats) for each in self._functions}
        found |= {each.binding.function: of_requests(each.stats) for each in self._responders}
        return {name: (now, now.since(self._written.get(name, Minute()))) for name, now in found.items()}

    async def run(self) -> None:
        """Write a record at the end of each minute."""
        number = self.number
        while self._may_write:
            await anyio.sleep(max(0.0, (number + 1) * minutes.SECONDS - self._clock.now()))
            await self._write(number)
            number = max(number + 1, self.number)

    async def end(self) -> None:
        """Write the last record."""
        with anyio.move_on_after(LAST_SECONDS):
            await self._write(max(self.number, self._last + 1))

    async def _write(self, number: int) -> None:
        figures = self._figures()
        record = MinuteRecord({name: since for name, (_, since) in figures.items() if since})
        if not record.functions or not self._may_write or not self._connection.is_connected:
            return
        key = minutes.key(self._project, number, self._instance)
        before, self._last = self._written, number
        # From now on these figures are told by the record alone: an asker reads the bucket after our answer.
        self._written = {name: now for name, (now, _) in figures.items()}
        try:
            await self._kv.put(key, msgspec.json.encode(record), minutes.KEPT)
        except PermissionDenied as error:
            self._may_write, self._written = False, before
            log.debug("figures cannot be kept: %s", error)
        except JetrunnerError as error:
            self._written = before
            log.debug("the figures of a minute cannot be stored yet: %s", error)


def of(stats: Stats) -> Minute:
    """The figures of a function since the start."""
    stats.collect()
    return Minute(
        stats.acked,
        stats.failed,
        stats.retried,
        sum(stats.dead.values()),
        minutes.buckets(stats.wait),
        minutes.buckets(stats.duration),
        minutes.buckets(stats.latency),
    )


def of_requests(counts: Counts) -> Minute:
    """The figures since the start of a function that answers requests."""
    counts.collect()
    return Minute(
        acked=counts.acked,
        failed=counts.failed,
        wait=minutes.buckets(counts.wait),
        work=minutes.buckets(counts.duration),
        latency=minutes.buckets(counts.latency),
        faulty=counts.faulty,
        refused=counts.not_started.total(),
        answers=True,
    )
