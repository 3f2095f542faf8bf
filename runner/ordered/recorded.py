"""What instances have put on record of what they settled (`settlement_log.py`), as it is read by who takes over."""

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
"""What one settlement takes, at most: it is written as its distance from the one before."""
NEWEST_BYTES = 64
"""What the record takes that says which message is the newest known."""
SHARD_BYTES = 10
"""What a shard takes beside its name and its settlements."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What one message of the bucket says."""

    first: Count
    """Sequence in the bucket of the instance's first record that counts, if it is not this one."""
    settled: dict[Line, list[Count]]
    """By shard: the lowest, and how far each is above the one before."""
    newest: Identity = NOTHING
    """The newest message of the stream that its instance knew."""


_decode = checked.msgpack(Record)


class Recorded:
    """The records of all instances of one function."""

    def __init__(self, kv: KV, prefix: str, history: History) -> None:
        self.prefix = prefix
        """Of their keys in the bucket; the instance and a number follow."""
        self._kv = kv
        self._history = history
        self._told: set[str] = set()

    async def load(self, instances: Sequence[str]) -> list[dict[str, list[int]]]:
        """What these instances have put on record by shard, as far as a server may have forgotten it."""
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
                "what %s had settled of %s does not count: the stream went back since, and has other messages from %d on",
                instance, self._history.stream, first,
            )  # fmt: skip
        return []


def distances(sequences: list[int]) -> list[int]:
    """The lowest, and how far each is above the one before."""
    sequences.sort()
    return [sequences[0], *map(sub, sequences[1:], sequences)]


def _read(entry: Entry) -> Record | None:
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
    """How many settlements of a shard fit into so many bytes; one does anyway if nothing was taken yet."""
    return max(0 if taken else 1, (room - SHARD_BYTES - len(name)) // SEQUENCE_BYTES)
