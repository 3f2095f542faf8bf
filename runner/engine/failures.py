"""Failed attempts of a shard's messages, kept in the bucket: the attempt is exact whoever owns the shard.

Rule 1: a failure is on record before its message runs again, however long NATS is away. One of a message that is settled
        by then, here or by the shard's next owner, is not counted.
Rule 2: a count that cannot be removed now is removed once the floor has passed its message. Nothing waits for that.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable

from runner.core import checked
from runner.engine.process import Process
from runner.errors import JetrunnerError, PermissionDenied
from runner.jetstream.bucket import Bucket
from runner.jetstream.delivery import Delivery
from runner.jetstream.lease import Leases
from runner.jetstream.publisher import insist
from runner.jetstream.stray import pass_over

log = logging.getLogger("jetrunner.shards")

MOST = 1_000_000_000
"""What a count may say; no message fails so often."""
RETRY_SECONDS = 2.0
"""Pause after an answer that waiting does not mend: somebody may."""


class Failures:
    """Sequence → how often its handler has failed."""

    def __init__(self, process: Process, function: str, generation: int, shard: int) -> None:
        self._bucket = process.bucket
        self._hasty = Bucket(process.connection, patience=0.0)
        self._leases = Leases(process.connection)
        self._tasks = process.tasks
        self._prefix = f"failures.{process.project}.{function}.{generation}.{shard}."
        self.counts: dict[int, int] = {}
        """Only messages that have failed are in it."""

    async def load(self) -> None:
        """Read what earlier owners recorded."""
        entries = await self._leases.read([self._prefix + "*"])
        self.counts = {}
        for key, entry in entries.items():
            sequence, count = _sequence(key.rpartition(".")[2]), checked.number(entry.value, most=MOST)
            if sequence is None or count is None:
                pass_over(key, "it is no count of failures")
            elif count:  # 0: settled, where nobody may purge
                self.counts[sequence] = count

    async def next_attempt(self, delivery: Delivery) -> bool:
        """Count the failure of a delivery's handler, and make it ready to run again. Raises nothing of NATS.

        False when the message is settled meanwhile: then it does not run again here.
        """
        count = self.counts.get(delivery.sequence, 0) + 1
        if not await self._store(delivery, count):
            return False
        self.counts[delivery.sequence] = count
        delivery.attempt = 1 + count
        renew(delivery)
        return True

    async def _store(self, delivery: Delivery, count: int) -> bool:
        async def once() -> bool:
            if not delivery.settled:  # its shard may be another's since the last try
                await self._hasty.put(f"{self._prefix}{delivery.sequence}", b"%d" % count)
            return not delivery.settled

        while True:
            try:
                return await insist(once, math.inf, f"failure {count} of message {delivery.sequence}")
            except JetrunnerError as error:
                log.error("failure %d of message %d is not stored: %s", count, delivery.sequence, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def drop(self, sequence: int) -> None:
        """It is settled. Raises nothing of NATS."""
        if self.counts.pop(sequence, None) is not None:
            await self._remove([sequence])

    def forget_below(self, floor: int) -> None:
        """All messages up to the floor of the shard's durable are settled, by whomever: drop their counts, without waiting."""
        settled = [each for each in self.counts if 0 < each <= floor]  # below 0: parked, on its way back
        for sequence in settled:
            del self.counts[sequence]
        if settled:
            self._tasks.start_soon(self._remove, settled)

    async def clear(self) -> None:
        """The stream is another one: these were other messages."""
        forgotten, self.counts = list(self.counts), {}
        await self._remove(forgotten)

    async def _remove(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            key = f"{self._prefix}{sequence}"
            try:
                try:
                    await self._bucket.drop(key)
                except PermissionDenied:  # to purge; a count of nothing says the same
                    await self._bucket.put(key, b"0")
            except JetrunnerError as error:
                log.warning("the count of message %d's failures stays for now: %s", sequence, error)


def _sequence(text: str) -> int | None:
    """Of a message, or below 0 of one on its way back."""
    number = checked.number(text.removeprefix("-"))
    return -number if number and text.startswith("-") else number


def renew(delivery: Delivery) -> None:
    """Make a delivery ready to start once more."""
    delivery.careful = True
    delivery.started = 0.0
    for name in ("overdue", "recorded", "finishing", "span", "result"):
        delivery.__dict__.pop(name, None)
