"""Keys that rest: their last message is settled and acked, but the settlement may be forgotten yet.

A key's lane goes on once the settlement is on record, or so old that the server has stored its ack (`records.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from runner.core.ordering import Ordering
from runner.engine.records import KEEP_SECONDS, Records


class Resting:
    """The resting keys of one shard; `go_on` is called with each sequence whose lane may go on."""

    def __init__(self, records: Records, name: str, ordering: Ordering, go_on: Callable[[int], None]) -> None:
        self.name = name
        """What the settlements are recorded under."""
        self.keys: dict[Any, int] = {}
        """Key → the sequence of its message."""
        self._records = records
        self._ordering = ordering
        self._go_on = go_on
        self._since: deque[tuple[float, Any, int]] = deque()
        self._wanted: set[int] = set()
        """Settlements that something waits for to be on record."""
        self._recorded = asyncio.Event()

    def add(self, key: Any, sequence: int) -> None:
        """From now on this key rests."""
        self.keys[key] = sequence
        self._since.append((time.monotonic(), key, sequence))

    def hurry(self, key: Any) -> None:
        """Something waits behind this key, if it rests."""
        if (sequence := self.keys.get(key)) is not None:
            self.want(sequence)

    def want(self, sequence: int) -> None:
        """Something waits for this settlement to be on record."""
        if sequence not in self._wanted:
            self._wanted.add(sequence)
            self._records.want(self, sequence)

    async def record(self) -> None:
        """Return once everything that was settled here is on record."""
        for sequence in self.keys.values():
            self.want(sequence)
        while self.keys:
            self._recorded.clear()
            await self._recorded.wait()

    def recorded(self, sequences: Sequence[int]) -> None:
        """These settlements are on record: their lanes go on."""
        for sequence in sequences:
            if sequence in self._wanted:
                self._wanted.discard(sequence)
                self._end(self._ordering.key(sequence), sequence)
        self._recorded.set()

    def pass_time(self, now: float) -> None:
        """What has rested long enough is not forgotten any more."""
        since = self._since
        while since and now - since[0][0] >= KEEP_SECONDS:
            _, key, sequence = since.popleft()
            if sequence not in self._wanted:
                self._end(key, sequence)

    def clear(self) -> list[int]:
        """The shard is let go: nothing rests here any more; the sequences that did."""
        sequences = list(self.keys.values())
        self.keys.clear()
        self._since.clear()
        self._wanted.clear()
        self._recorded.set()
        return sequences

    def _end(self, key: Any, sequence: int) -> None:
        if self.keys.get(key) == sequence:
            del self.keys[key]
            self._go_on(sequence)
