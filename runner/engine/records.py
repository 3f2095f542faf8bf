"""Settlements on record: what lets the next message of a key start.

An ack is no record. It is lost with the process that sent it, and a server that is killed forgets those of its last
tenth of a second (measured): then the message would run again though a later one of its key has been done.

Rule 1: a key's next message starts once the settlement of the one before is on record in the bucket, or is so old that
        the server has stored its ack.
Rule 2: one write is on its way at a time, and what is wanted meanwhile goes with the next; where few messages come, a
        settlement that nobody waits for is never written. What one message cannot hold goes with those that follow.
Rule 3: an instance writes to a ring of keys; each is written again when what it says is old enough. They stay for
        whoever takes over, and run out by themselves.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from operator import sub
from typing import Protocol, TypeAlias

import msgspec

from runner.core import header
from runner.engine.process import Process
from runner.errors import ServerError
from runner.jetstream.bucket import PREFIX
from runner.jetstream.lease import Leases
from runner.jetstream.publisher import is_stored

log = logging.getLogger("jetrunner.shards")

KEEP_SECONDS = 0.5
"""The server stores acks about every 0.1 s."""
LOOK_SECONDS = 3.0
"""What was written so long before an instance's last record is of acks that are stored: it notices within half of that
when acks may have gone nowhere, and then starts nothing before they are sent again, and recorded again with the next."""
SLOTS = 500
"""Keys of one ring."""
RETRY_SECONDS = 0.05
MOST_BYTES = 256 << 10
"""Of one record; where the server takes less than twice as much in a message, half of that."""
SEQUENCE_BYTES = 5
"""What one settlement takes, at most: it is written as its distance from the one before."""
SHARD_BYTES = 10
"""What a shard takes beside its name and its settlements."""
_HEADER = header.encode([("Nats-TTL", "24h")])


class Settled(Protocol):
    """What one shard has settled, under its name."""

    name: str
    hurried: bool
    """Whether there is more to be recorded."""

    def take(self, most: int) -> Sequence[int]:
        """The settlements to be recorded now, the oldest first."""

    def recorded(self, sequences: Sequence[int]) -> None:
        """What was taken is on record."""

    def missed(self, sequences: Sequence[int]) -> None:
        """What was taken may not be on record: it is wanted again."""


Part: TypeAlias = tuple[Settled, str, Sequence[int]]
"""What one record says of one shard, and under which name."""


class Taken(msgspec.Struct):
    """What goes into one record."""

    fresh: list[Part] = []
    again: list[Part] = []
    """Was on record before."""


class Records:
    """The settlements that one instance has put on record for one function."""

    def __init__(self, process: Process, function: str, instance: str) -> None:
        self._process = process
        self._leases = Leases(process.connection)
        self._prefix = f"settled.{process.project}.{function}."
        self._ring = f"{PREFIX}{self._prefix}{instance}."
        self._slot = 0
        self._written = [0.0] * SLOTS
        self._latest: deque[tuple[float, list[Part]]] = deque()
        """What was written last."""
        self._again: dict[tuple[Settled, str], set[int]] = {}
        """What is on record, and has to be written again."""
        self._epoch = process.connection.wire.epoch
        self._wanted: deque[Settled] = deque()
        self._busy = False

    @property
    def link(self) -> int:
        """The connection that acks leave on, -1 while there is none."""
        connection = self._process.connection
        return int(connection.wire.epoch) if connection.is_connected else -1

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
        self._look_back()
        taken = Taken()
        try:
            self._fill(taken)
            if taken.fresh or taken.again:
                self._send(taken)
            else:
                self._busy = False  # the shards were let go meanwhile
        except Exception:  # whatever it is, nothing may wait for ever for this write
            log.exception("settlements could not be recorded yet")
            self._fail(taken)

    def _look_back(self) -> None:
        epoch = self._process.connection.wire.epoch
        if self._epoch != epoch:
            # The server may be another one, which has forgotten acks: what was written before is written again.
            self._epoch = epoch
            for _, parts in self._latest:
                for shard, name, sequences in parts:
                    self._again.setdefault((shard, name), set()).update(sequences)
            self._latest.clear()

    def _fill(self, taken: Taken) -> None:
        """Take what fits into one message, of what is written again no more than half of it."""
        left = min(MOST_BYTES, self._process.connection.max_payload // 2)
        room = left // 2
        while self._again and (most := _most(room, next(iter(self._again))[1], taken.again)) > 0:
            (shard, name), known = next(iter(self._again.items()))
            oldest = sorted(known)[:most]
            known.difference_update(oldest)
            if not known:
                del self._again[shard, name]
            taken.again.append((shard, name, oldest))
            room -= _size(name, oldest)
            left -= _size(name, oldest)
        wanted = self._wanted
        while wanted and (most := _most(left, wanted[0].name, taken.fresh)) > 0:
            shard = wanted[0]
            sequences = shard.take(most)
            if sequences:
                taken.fresh.append((shard, shard.name, sequences))
                left -= _size(shard.name, sequences)
            if shard.hurried:
                break
            wanted.popleft()

    def _send(self, taken: Taken) -> None:
        record: dict[str, list[int]] = {}
        for _, name, sequences in (*taken.again, *taken.fresh):
            record.setdefault(name, []).extend(sequences)
        body = msgspec.msgpack.encode({name: _distances(sequences) for name, sequences in record.items()})
        subject = f"{self._ring}{self._slot}".encode()
        self._process.connection.publisher.send(subject, body, _HEADER, self._answered, taken)

    def _answered(self, taken: Taken, _: bytes | None, answer: bytes, error: ServerError | None) -> None:
        if error is not None or not is_stored(answer):
            self._fail(taken)
            return
        now = time.monotonic()
        self._latest.append((now, [*taken.again, *taken.fresh]))
        while now - self._latest[0][0] > 2 * KEEP_SECONDS:
            self._latest.popleft()
        self._written[self._slot] = now
        self._slot = (self._slot + 1) % SLOTS
        self._busy = False
        try:
            for shard, _name, sequences in taken.fresh:
                shard.recorded(sequences)
        finally:
            if (self._wanted or self._again) and not self._busy:
                self._busy = True
                self._write()

    def _fail(self, taken: Taken) -> None:
        """Write it again, later: as much of it as fits then."""
        self._process.loop.call_later(RETRY_SECONDS, self._write)
        for shard, name, sequences in taken.again:
            self._again.setdefault((shard, name), set()).update(sequences)
        for shard, _, sequences in taken.fresh:
            shard.missed(sequences)

    async def load(self, instances: Sequence[str]) -> list[dict[str, list[int]]]:
        """What these instances have put on record by shard, as far as a server may have forgotten it."""
        written = await asyncio.gather(
            *(self._leases.latest_written(f"{self._prefix}{each}.*", LOOK_SECONDS) for each in instances)
        )
        found = []
        for entry in itertools.chain.from_iterable(written):
            with suppress(msgspec.DecodeError):
                record = msgspec.msgpack.decode(entry.value, type=dict[str, list[int]])
                found.append({name: list(itertools.accumulate(each)) for name, each in record.items()})
        return found


def _distances(sequences: list[int]) -> list[int]:
    """The lowest, and how far each is above the one before."""
    sequences.sort()
    return [sequences[0], *map(sub, sequences[1:], sequences)]


def _size(name: str, sequences: Sequence[int]) -> int:
    return SHARD_BYTES + len(name) + SEQUENCE_BYTES * len(sequences)


def _most(room: int, name: str, taken: list[Part]) -> int:
    """How many settlements of a shard fit; one does anyway if there is none."""
    return max(0 if taken else 1, (room - SHARD_BYTES - len(name)) // SEQUENCE_BYTES)
