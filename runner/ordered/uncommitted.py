"""The uncommitted messages of one shard: settled, and not on record yet. Their keys' next messages wait (`settlement_log.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from runner.core.history import Identity
from runner.core.ordering import Ordering
from runner.ordered.settlement_log import SettlementLog

FORGETS_SECONDS = 0.5
"""A killed server forgets no ack older than this: it stores acks about every 0.1 s."""


class Uncommitted:
    """Has a shard's settlements put on record; `start` is called with the sequences that may start then."""

    def __init__(
        self,
        settlement_log: SettlementLog,
        name: str,
        ordering: Ordering,
        start: Callable[[Sequence[int]], None],
        newest: Callable[[], Identity],
    ) -> None:
        self.newest = newest
        """A message of the stream that is no older than any that was settled."""
        self.name = name
        """The name that the settlements are recorded under."""
        self.wanted = False
        """Whether the log was asked to record what is settled."""
        self.hurried = False
        """Whether the log was asked to do so at once, since a key waits."""
        self._log = settlement_log
        self._ordering = ordering
        self._start = start
        self._doubted = 0.0
        """When the shard was last seen in doubt, with something on record."""
        self._kept = False
        """Whether anything went on record since the shard was taken over."""
        self._recorded = asyncio.Event()

    def enqueue(self) -> None:
        """A message was settled: have that recorded soon."""
        self.wanted = True
        self._log.enqueue(self)

    def request_commit(self) -> None:
        """A message waits behind an uncommitted one: have the settlements recorded at once."""
        if not self.hurried and self._ordering.uncommitted:
            self._log.request_commit(self)
            self.wanted = self.hurried = True

    async def record(self) -> None:
        """Return once everything that was settled here is on record."""
        while self._ordering.uncommitted:
            self.request_commit()
            self._recorded.clear()
            await self._recorded.wait()

    def doubtful(self, now: float) -> bool:
        """Whether the shard is in doubt, or was a moment ago: acks that were sent again may be forgotten again."""
        if self._kept and self._ordering.barrier:
            self._doubted = now
        return now - self._doubted < FORGETS_SECONDS

    def take(self, most: int) -> list[int]:
        """Up to `most` settlements to be recorded, the oldest first; they are on their way from now on."""
        taken = self._ordering.take(most)
        self._kept |= bool(taken)
        self.wanted = self.hurried = self._ordering.uncommitted > len(taken)
        return taken

    def requeue(self, taken: list[int]) -> None:
        """The taken settlements may not be on record: they are to be recorded again, unless the shard was let go meanwhile."""
        self._ordering.put_back(taken)
        self.request_commit()

    def recorded(self, taken: list[int]) -> None:
        """These are on record: their lanes go on, unless the shard was let go meanwhile."""
        if ready := self._ordering.commit(taken):
            self._start(ready)
        self._recorded.set()

    def end(self) -> None:
        """The shard is let go: nothing is to be recorded here any more."""
        self._kept = False
        self._recorded.set()
