"""The settlements that instances have put on record (`settlement_log.py`), as a shard's next owner reads them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from contextlib import suppress
from operator import sub

import msgspec

from runner.core import checked
from runner.core.checked import Count, Line, Unfit
from runner.core.history import NOTHING, Identity, void
from runner.jetstream.concurrent import gather
from runner.jetstream.kv import KV, Entry
from runner.runtime.history import History

log = logging.getLogger("jetrunner.shards")

SEQUENCE_BYTES = 5
"""The most bytes of one settlement, which is written as its distance from the one before."""
NEWEST_BYTES = 64
"""The most bytes of a record's newest known message."""
SHARD_BYTES = 10
"""Bytes of a shard in a record, beside its name and its settlements."""


class SettlementRecord(msgspec.Struct, frozen=True, array_like=True):
    """One record, as a message of the bucket holds it."""

    first: Count
    """Sequence in the bucket of the instance's first record that counts, if it is not this one."""
    settled: dict[Line, list[Count]]
    """By shard: the lowest sequence, and of each other one the distance from the one before."""
    newest: Identity = NOTHING
    """The newest message of the stream that its instance knew."""


_decode = checked.msgpack(SettlementRecord)


class Recorded:
    """The records of all instances of one function."""

    def __init__(self, kv: KV, prefix: str, history: History) -> None:
        self.prefix = prefix
        """The prefix of their keys in the bucket; the instance and a number follow."""
        self._kv = kv
        self._history = history
        self._told: set[str] = set()

    async def load(self, instances: Sequence[str]) -> list[dict[str, list[int]]]:
        """The recorded settlements of these instances, by shard, as far as a server may have forgotten their acks."""
        found = await gather(*map(self._load, instances))
        return list(itertools.chain.from_iterable(found))

    async def _load(self, instance: str) -> list[dict[str, list[int]]]:
        written = await self._kv.written_since(f"{self.prefix}{instance}.*", _first)
        written.sort(key=lambda entry: entry.revision)
        records = [record for entry in written if (record := _read(entry)) is not None]
        newest = next((each.newest for each in reversed(records) if each.newest.sequence), NOTHING)
        first = void(await self._history.compare(newest)) if newest.sequence else None
        found = [
            {name: list(itertools.accumulate(each)) for name, each in record.settled.items()}
            for record in records
        ]
        if first is None:
            return found
        if instance not in self._told:
            self._told.add(instance)
            log.warning(
                "the settlements of %s in %s are void: the stream went back, and has other messages from %d on",
                instance, self._history.stream, first,
            )  # fmt: skip
        return []


def distances(sequences: list[int]) -> list[int]:
    """The lowest sequence, and of each other one the distance from the one before."""
    sequences.sort()
    return [sequences[0], *map(sub, sequences[1:], sequences)]


def _read(entry: Entry) -> SettlementRecord | None:
    with suppress(Unfit):
        return _decode(entry.value)
    return None


def _first(last: Entry) -> int:
    record = _read(last)
    return record.first if record is not None else last.revision


def size(name: str, sequences: Sequence[int]) -> int:
    """How many bytes settlements of a shard take in a record, at most."""
    return SHARD_BYTES + len(name) + SEQUENCE_BYTES * len(sequences)


def fitting(room: int, name: str, taken: Sequence[object]) -> int:
    """How many settlements of a shard fit into so many bytes; at least one if nothing was taken yet."""
    return max(0 if taken else 1, (room - SHARD_BYTES - len(name)) // SEQUENCE_BYTES)
