"""Lanes that rest: their message is settled and acked, but the settlement may be forgotten yet.

A lane goes on once the settlement is on record, or so old that the server has stored its ack (`records.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from runner.core.history import Identity
from runner.core.ordering import Ordering
from runner.engine.records import KEEP_SECONDS, Records

EAGER = 64
"""So many settlements go on record though nobody waits: that costs little, and the lanes are free sooner."""


class Resting:
    """What rests in one shard; `start` is called with the sequences that may start then."""

    def __init__(
        self,
        records: Records,
        name: str,
        ordering: Ordering,
        start: Callable[[Sequence[int]], None],
        newest: Callable[[], Identity],
    ) -> None:
        self.newest = newest
        """A message of the stream that is no older than any that rests here."""
        self.name = name
        """What the settlements are recorded under."""
        self.settled: list[int] = []
        """The youngest ones; whoever adds to it asks for the record when something waits, or there are many."""
        self.hurried = False
        """Whether a record was asked for of what has been settled."""
        self._older: list[int] = []
        self._sent: Sequence[int] = ()
        """Those on their way into the bucket."""
        self._known: set[int] | None = None
        """All of them, as far as `settled` was counted; None while nobody asks."""
        self._counted = 0
        self._records = records
        self._ordering = ordering
        self._start = start
        self._turned = 0.0
        self._doubted = 0.0
        """When the shard was last seen in doubt, with something on record."""
        self._kept = False
        """Whether anything was put on record since the shard was taken over."""
        self._link = -1
        """The connection that acks left on when the time last passed."""
        self._recorded = asyncio.Event()

    def __bool__(self) -> bool:
        return bool(self.settled or self._older or self._sent)

    def __contains__(self, sequence: int) -> bool:
        settled = self.settled
        if self._known is None:
            self._known, self._counted = {*self._sent, *self._older, *settled}, len(settled)
        elif len(settled) > self._counted:
            self._known.update(settled[self._counted :])
            self._counted = len(settled)
        return sequence in self._known

    def hurry(self) -> None:
        """Something waits behind what rests here: have it recorded."""
        if not self.hurried and (self.settled or self._older):
            self.hurried = True
            self._records.want(self)

    async def record(self) -> None:
        """Return once everything that was settled here is on record."""
        while self:
            self.hurry()
            self._recorded.clear()
            await self._recorded.wait()

    def doubtful(self, now: float) -> bool:
        """Whether the shard is in doubt, or was a moment ago: acks that were sent again may be forgotten again."""
        if self._kept and self._ordering.barrier:
            self._doubted = now
        return now - self._doubted < KEEP_SECONDS

    def take(self, most: int) -> Sequence[int]:
        """So much of what is to be recorded, the oldest first; it is on its way from now on."""
        wanted = self._older + self.settled
        taken = self._sent = wanted[:most]
        self._older, self.settled = wanted[most:], []
        self._known = None
        self.hurried = bool(self._older)
        return taken

    def missed(self, sequences: Sequence[int]) -> None:
        """What was taken did not get there: it is wanted again, unless the shard was let go meanwhile."""
        if sequences is self._sent:
            self._older, self._sent = [*sequences, *self._older], ()
            self.hurry()

    def recorded(self, sequences: Sequence[int]) -> None:
        """These are on record: their lanes go on, unless the shard was let go meanwhile."""
        if sequences is self._sent:
            self._sent, self._known, self._kept = (), None, True
            self._release(sequences)
        self._recorded.set()

    def pass_time(self, now: float) -> None:
        """What has rested long enough, without anybody waiting for its record, is not forgotten any more, or goes on record.

        While there is no connection no ack leaves, and those that left right before it was lost may be lost with it.
        """
        self.doubtful(now)
        link, self._link = self._link, self._records.link
        if self._link < 0 or self._link != link:
            self._turned = now
        elif not self.hurried and now - self._turned >= KEEP_SECONDS:
            self._turned = now
            if self._records.replicated:
                self.hurry()
                return
            old, self._older, self.settled, self._known = self._older, self.settled, [], None
            self._release(old)

    def clear(self) -> list[int]:
        """The shard is let go: nothing rests here any more; the sequences that did."""
        sequences = [*self._sent, *self._older, *self.settled]
        self._sent, self._older, self.settled, self._known, self._kept = (), [], [], None, False
        self._recorded.set()
        return sequences

    def _release(self, sequences: Sequence[int]) -> None:
        if sequences and (ready := self._ordering.settle_all(sequences)):
            self._start(ready)
