"""Failed attempts of a shard's messages, kept in the bucket: attempts, and the time of the next one, whoever owns the shard.

Rule 1: a failure is on record before its message runs again, however long NATS is out of reach. If the message is settled by then,
        here or by the shard's next owner, the failure is not counted.
Rule 2: a record is written by compare-and-set, so an owner that has lost the shard cannot overwrite the failures that the next
        owner has counted.
Rule 3: the death of a process is no failure: the next owner waits for the rest of the delay, and continues the count of attempts.
Rule 4: a record that cannot be removed now is removed once the floor has passed its message. Nothing waits for that.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from runner.core import checked, failurerecord
from runner.core.address import Address
from runner.core.failurerecord import FailureRecord
from runner.errors import JetrunnerError, PermissionDenied
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.delivery import Delivery
from runner.jetstream.kv import KV
from runner.jetstream.publisher import retry_until
from runner.jetstream.reply import stored_at
from runner.jetstream.tolerant import pass_over
from runner.pipeline.fence import Fences
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.shards")

RETRY_SECONDS = 2.0
"""Pause after an error that does not pass by itself; somebody may correct its cause meanwhile."""


NONE = FailureRecord(0)
NOTHING = b"0"
"""Written in place of a record that the credentials do not allow to purge."""
STAYS = "the count of failures of message %d cannot be deleted yet: %s"


class KnownFailure(Struct, frozen=True):
    """A record, and the revision that the next write must name."""

    failed: FailureRecord
    revision: int


class Failures:
    """The failure records of one shard's messages, by sequence."""

    def __init__(self, runtime: Runtime, address: Address, fences: Fences) -> None:
        self._connection = runtime.connection
        self._kv = KV(runtime.connection, 0.0)
        """Tries each request once: before each further try it is checked whether the failure still counts."""
        self._patient = runtime.kv
        self._tasks = runtime.tasks
        self._fences = fences
        self._prefix = f"failures.{address.project}.{address.name}."
        self.known: dict[int, KnownFailure] = {}
        """Only messages that have failed are in it."""

    async def load(self) -> None:
        """Read what earlier owners recorded, from the bucket's leader."""
        names = [key.removeprefix(self._prefix) for key in await self._kv.keys(f"{self._prefix}*")]
        # A name that starts with a dash is of a message on its way back: earlier releases counted those here.
        sequences = []
        for name in names:
            sequence = checked.number(name)
            if sequence is not None:
                sequences.append(sequence)
            elif checked.number(name.removeprefix("-")) is None:
                pass_over(self._prefix + name, "it names no message")
        self.known = {}
        entries = zip(sequences, await map_concurrently(self._read, sequences), strict=True)
        self.known = {sequence: entry for sequence, entry in entries if entry is not None}

    async def _read(self, sequence: int) -> KnownFailure | None:
        value, revision = await self._kv.leader(f"{self._prefix}{sequence}")
        record = failurerecord.read(value) if revision else None
        if revision and record is None and value != NOTHING:
            pass_over(f"{self._prefix}{sequence}", "it is not a record of failures")
        return KnownFailure(record, revision) if record is not None else None

    def of(self, sequence: int, stored: int) -> FailureRecord | None:
        """The record of the message that was stored then; a record of another message with the same sequence does not count."""
        known = self.known.get(sequence)
        if known is None:
            return None
        if not known.failed.is_about(stored):
            known = self.known[sequence] = KnownFailure(
                NONE, known.revision
            )  # removed with the message of that number
        return known.failed

    def count(self, delivery: Delivery) -> None:
        """Set the attempt of a message that was just delivered, whichever instances have tried it before."""
        if delivery.careful:
            # Takeovers and give-backs raise the count, too: the second delivery is not yet suspect.
            delivery.deliveries = delivery.attempt - 1
            delivery.careful = delivery.deliveries > 1
            delivery.attempt = 1
        if self.known and (record := self.of(delivery.sequence, stored_at(delivery.reply))):
            delivery.attempt = 1 + record.count
            delivery.careful = True

    async def next_attempt(self, delivery: Delivery, delay: float) -> float | None:
        """Count the failure of a delivery's handler, and make the delivery ready to run again; returns the seconds until then.

        None if the message was settled meanwhile: then it does not run again here. Raises no error of NATS.
        """
        before, stored = self.of(delivery.sequence, stored_at(delivery.reply)), stored_at(delivery.reply)
        record = failurerecord.once_more(before, delay, self._connection.clock.now(), stored)
        if not await self._store(delivery, record):
            return None
        delivery.attempt = 1 + record.count
        renew(delivery)
        return record.rest(self._connection.clock.now())

    async def _store(self, delivery: Delivery, record: FailureRecord) -> bool:
        sequence = delivery.sequence
        while True:
            try:
                return await retry_until(
                    lambda: self._put(delivery, record),
                    math.inf,
                    f"failure {record.count} of message {sequence}",
                )
            except JetrunnerError as error:
                log.error("failure %d of message %d is not stored: %s", record.count, sequence, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _put(self, delivery: Delivery, record: FailureRecord) -> bool:
        """Write a record over any other, as long as the shard is ours; another instance may own it since the last try."""
        sequence = delivery.sequence
        while not delivery.settled:
            known = self.known.get(sequence)
            revision = await self._swap(sequence, record, known.revision if known is not None else 0)
            if revision is not None:
                return self._keep(delivery, KnownFailure(record, revision))
            ownership = self._fences.ownership
            if ownership is not None and not await ownership.lasts():
                ownership.end()
                return False
            # The record there is ours, from a write whose answer was lost, or from an owner that had lost the shard.
            standing = await self._kv.leader(f"{self._prefix}{sequence}")
            self._keep(delivery, KnownFailure(known.failed if known is not None else NONE, standing.revision))
        return False

    def _keep(self, delivery: Delivery, known: KnownFailure) -> bool:
        """Remember a record, unless the message is settled by now, or another owner's."""
        if delivery.settled:
            return False
        self.known[delivery.sequence] = known
        return True

    async def _swap(self, sequence: int, record: FailureRecord, revision: int) -> int | None:
        return await self._kv.swap(f"{self._prefix}{sequence}", msgspec.json.encode(record), revision)

    async def rewrite(self) -> None:
        """Write again the records that the bucket has lost, or holds in an older state. Raises JetrunnerError."""
        known = [sequence for sequence, each in self.known.items() if each.failed.count]
        await map_concurrently(self._rewrite, known)

    async def _rewrite(self, sequence: int) -> None:
        value, standing = await self._kv.leader(f"{self._prefix}{sequence}")
        known = self.known.get(sequence)
        if known is None or (standing and standing == known.revision):
            return
        revision: int | None
        if standing and known.failed.is_counted_in(failurerecord.read(value)):
            revision = standing  # ours, or from an owner that has continued our count
        else:
            ownership = self._fences.ownership
            if ownership is None:
                return  # the record there may be the next owner's
            if not await ownership.lasts():
                ownership.end()
                return
            revision = await self._swap(sequence, known.failed, standing)
        if revision is not None and self.known.get(sequence) is known:
            self.known[sequence] = KnownFailure(known.failed, revision)

    async def drop(self, sequence: int) -> None:
        """Remove the record of a message that is settled. Raises no error of NATS."""
        known = self.known.pop(sequence, None)
        if known is not None:
            await self._remove({sequence: known})

    def forget_below(self, floor: int) -> None:
        """All messages up to the floor of the shard's durable are settled, by whomever: drop their records, without waiting."""
        settled = {sequence: known for sequence, known in self.known.items() if sequence <= floor}
        for sequence in settled:
            del self.known[sequence]
        if settled:
            self._tasks.start_soon(self._remove, settled)

    async def clear(self) -> None:
        """Remove all records: the stream is another one, and they are about other messages."""
        forgotten, self.known = self.known, {}
        await self._remove(forgotten)

    async def _remove(self, settled: Mapping[int, KnownFailure]) -> None:
        """Remove these records, but none that was written since: such a record is about a message that runs again."""
        for sequence, known in settled.items():
            key = f"{self._prefix}{sequence}"
            try:
                await self._patient.remove(key, known.revision)
            except PermissionDenied:  # a count of zero says the same
                await self._write_nothing(sequence, known.revision)
            except JetrunnerError as error:
                log.warning(STAYS, sequence, error)

    async def _write_nothing(self, sequence: int, revision: int) -> None:
        try:
            await self._patient.swap(f"{self._prefix}{sequence}", NOTHING, revision)
        except JetrunnerError as error:
            log.warning(STAYS, sequence, error)


def renew(delivery: Delivery) -> None:
    """Make a delivery ready to start once more."""
    delivery.careful = True
    delivery.started = 0.0
    delivery.overdue = delivery.recorded = delivery.finishing = False
    delivery.span = delivery.result = None
