"""Settlements on record: what lets the next message of a key start.

An ack is no record. It is lost with the process that sent it, and a server that is killed forgets those of its last
tenth of a second (measured): then the message would run again though a later one of its key has been done.

Rule 1: a key's next message starts once the settlement of the one before is on record in the bucket, or is so old that
        the server has stored its ack.
Rule 2: one write is on its way at a time, and what is wanted meanwhile goes with the next; where few messages come, a
        settlement that nobody waits for is never written.
Rule 3: an instance writes to a ring of keys; each is written again when what it says is old enough. They stay for
        whoever takes over, and run out by themselves.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, TypeAlias

import msgspec

from runner.core import header
from runner.engine.process import Process
from runner.errors import ServerError
from runner.jetstream.bucket import PREFIX
from runner.jetstream.lease import Leases
from runner.jetstream.publisher import is_stored

KEEP_SECONDS = 0.5
"""The server stores acks about every 0.1 s."""
LOOK_SECONDS = 3.0
"""What was written so long before an instance's last record is of acks that are stored: it notices within half of that
when acks may have gone nowhere, and then starts nothing before they are sent again, and recorded again with the next."""
SLOTS = 500
"""Keys of one ring."""
RETRY_SECONDS = 0.05
_HEADER = header.encode([("Nats-TTL", "24h")])


class Settled(Protocol):
    """What one shard has settled, under its name."""

    name: str

    def take(self) -> Sequence[int]:
        """The settlements to be recorded now."""

    def recorded(self, sequences: Sequence[int]) -> None:
        """These settlements are on record."""


Taken: TypeAlias = list[tuple[Settled, str, Sequence[int]]]


class Records:
    """The settlements that one instance has put on record for one function."""

    def __init__(self, process: Process, function: str, instance: str) -> None:
        self._process = process
        self._leases = Leases(process.connection)
        self._prefix = f"settled.{process.project}.{function}."
        self._ring = f"{PREFIX}{self._prefix}{instance}."
        self._slot = 0
        self._written = [0.0] * SLOTS
        self._latest: deque[tuple[float, Taken]] = deque()
        """What was written last."""
        self._epoch = process.connection.wire.epoch
        self._wanted: list[Settled] = []
        self._busy = False

    def want(self, shard: Settled) -> None:
        """Put what a shard has settled on record; `shard.recorded` is called once it is."""
        self._wanted.append(shard)
        if not self._busy:
            self._busy = True
            self._process.loop.call_soon(self._write)

    def _write(self) -> None:
        wait = self._written[self._slot] + KEEP_SECONDS - time.monotonic()
        if wait > 0:
            self._process.loop.call_later(wait, self._write)
            return
        wanted, self._wanted = self._wanted, []
        self._send([(shard, shard.name, shard.take()) for shard in wanted])

    def _send(self, taken: Taken) -> None:
        record = {name: sequences for _, name, sequences in taken}
        if self._epoch != self._process.connection.wire.epoch:
            # The server may be another one, which has forgotten acks: whoever reads this record reads those, too.
            for _, earlier in self._latest:
                for _, name, sequences in earlier:
                    record[name] = [*record.get(name, ()), *sequences]
        subject = f"{self._ring}{self._slot}".encode()
        body = msgspec.msgpack.encode(record)
        sent = self._process.connection.wire.epoch, taken
        self._process.connection.publisher.send(subject, body, _HEADER, self._answered, sent)

    def _answered(
        self, sent: tuple[int, Taken], _: bytes | None, answer: bytes, error: ServerError | None
    ) -> None:
        epoch, taken = sent
        if error is not None or not is_stored(answer):
            self._process.loop.call_later(RETRY_SECONDS, self._send, taken)
            return
        now = time.monotonic()
        self._epoch = epoch
        self._latest.append((now, taken))
        while now - self._latest[0][0] > 2 * KEEP_SECONDS:
            self._latest.popleft()
        self._written[self._slot] = now
        self._slot = (self._slot + 1) % SLOTS
        self._busy = False
        for shard, _name, sequences in taken:
            shard.recorded(sequences)
        if self._wanted and not self._busy:
            self._busy = True
            self._write()

    async def load(self, instances: Sequence[str]) -> list[dict[str, list[int]]]:
        """What these instances have put on record by shard, as far as a server may have forgotten it."""
        written = await asyncio.gather(
            *(self._leases.latest_written(f"{self._prefix}{each}.*", LOOK_SECONDS) for each in instances)
        )
        found = []
        for entry in itertools.chain.from_iterable(written):
            with suppress(msgspec.DecodeError):
                found.append(msgspec.msgpack.decode(entry.value, type=dict[str, list[int]]))
        return found
