"""Settlements on record: what lets the next message of a key start.

An ack is no record. It is lost with the process that sent it, and a server that is killed forgets those of its last
tenth of a second (measured): then the message would run again though a later one of its key has been done.

Rule 1: a key's next message starts once the settlement of the one before is on record in the bucket, or is so old that
        the server has stored its ack.
Rule 2: one write is on its way at a time, and what is wanted meanwhile goes with the next; a settlement that nobody
        waits for is never written.
Rule 3: an instance writes to a ring of keys; each is written again when what it says is old enough. They stay for
        whoever takes over, and run out by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from runner.core import header
from runner.engine.process import Process
from runner.errors import ServerError
from runner.jetstream.bucket import PREFIX
from runner.jetstream.lease import Leases
from runner.jetstream.publisher import is_stored

KEEP_SECONDS = 0.5
"""The server stores acks about every 0.1 s."""
SLOTS = 500
"""Keys of one ring; a reader gets up to 1,024 in one answer."""
RETRY_SECONDS = 0.05
_HEADER = header.encode([("Nats-TTL", "24h")])


class Lanes(Protocol):
    """Whose messages wait: a shard, by its name."""

    name: str

    def recorded(self, sequences: Sequence[int]) -> None:
        """These settlements are on record."""


class Records:
    """The settlements that one instance has put on record for one function."""

    def __init__(self, process: Process, function: str, instance: str) -> None:
        self._process = process
        self._leases = Leases(process.connection)
        self._prefix = f"settled.{process.project}.{function}."
        self._ring = f"{PREFIX}{self._prefix}{instance}."
        self._slot = 0
        self._written = [0.0] * SLOTS
        self._wanted: dict[Lanes, list[int]] = {}
        self._busy = False

    def want(self, shard: Lanes, sequence: int) -> None:
        """Put a settlement on record; `shard.recorded` is called once it is."""
        found = self._wanted.get(shard)
        if found is None:
            self._wanted[shard] = [sequence]
        else:
            found.append(sequence)
        if not self._busy:
            self._busy = True
            self._process.loop.call_soon(self._write)

    def _write(self) -> None:
        wait = self._written[self._slot] + KEEP_SECONDS - time.monotonic()
        if wait > 0:
            self._process.loop.call_later(wait, self._write)
            return
        wanted, self._wanted = self._wanted, {}
        body = msgspec.msgpack.encode({shard.name: sequences for shard, sequences in wanted.items()})
        subject = f"{self._ring}{self._slot}".encode()
        self._process.connection.publisher.send(subject, body, _HEADER, self._answered, wanted)

    def _answered(
        self, wanted: dict[Lanes, list[int]], _: bytes | None, answer: bytes, error: ServerError | None
    ) -> None:
        if error is not None or not is_stored(answer):
            for shard, sequences in wanted.items():
                self._wanted[shard] = sequences + self._wanted.get(shard, [])
            self._process.loop.call_later(RETRY_SECONDS, self._write)
            return
        self._written[self._slot] = time.monotonic()
        self._slot = (self._slot + 1) % SLOTS
        self._busy = False
        for shard, sequences in wanted.items():
            shard.recorded(sequences)
        if self._wanted and not self._busy:
            self._busy = True
            self._write()

    async def load(self, instances: Sequence[str], name: str) -> set[int]:
        """What these instances have put on record of a shard's messages, the latest of it at least."""
        found: set[int] = set()
        for instance in instances:
            for entry in (await self._leases.read([f"{self._prefix}{instance}.*"])).values():
                try:
                    record = msgspec.msgpack.decode(entry.value, type=dict[str, list[int]])
                except msgspec.DecodeError:
                    continue
                found.update(record.get(name, ()))
        return found
