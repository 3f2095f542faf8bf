"""Settlements on record: what lets the next message of a key start.

An ack is not enough. It may be lost with the process that sent it, and a server that is killed forgets the acks of its last 0.1 s
(measured). Then the message would run again although a later one of its key is done.

Rule 1: a key's next message starts once the settlement of the one before is on record in the bucket. Records are kept longer for a
        replicated stream, because there an ack may be lost long after it was sent.
Rule 2: a settlement is written at once when a key waits for it, else within 20 ms. One write is on its way at a time, and
        what is settled meanwhile goes with the next. What one message cannot hold goes with those that follow.
Rule 3: acks may be lost for a while before that is noticed. Then the shard is in doubt, starts nothing, and sends and records them
        again. Records are kept for longer than that takes; those of a shard in doubt are kept until the doubt is over.
Rule 4: a record names the sequence of the bucket from which on its instance's records count. The keys of records that no longer
        count are used again, so a quiet instance has few keys. Records stay for the next owner, and expire by themselves. If many
        records count, a small new one takes the key of the one before and repeats its content.
Rule 5: a record names the newest message that its instance knew. If the stream has another message with that number now, the record
        no longer counts for that number and later ones. All records of an instance that count belong to one history.
Rule 6: what the bucket has lost is written again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable

import msgspec

from runner.core import header
from runner.core.history import NOTHING, StreamState
from runner.core.news import News
from runner.errors import ServerError
from runner.jetstream.kv import KV, PREFIX
from runner.ordered.recorded import NEWEST_BYTES, Recorded, SettlementRecord, distances, fitting, size
from runner.ordered.segment import CompactPart, RecordPart, Segment, SettledShard, Settlements
from runner.runtime.history import History
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.shards")

COMMIT_SECONDS = 0.02
"""A settlement for which no key waits is written within that time."""
COUNT_SECONDS = 3.5
"""A record counts at least so long. A silent server is noticed within 2.4 s (`SILENCE_SECONDS` of a shard's pull) and two or three
turns of `Pull.watch`. The rest is for a loop that stands still."""
STALLED_SECONDS = 25.0
"""The same on a replicated stream. A leader without contact to the others serves its clients for up to 20 s before it notices
(nats-server checks each 10 s whether 10 s have passed). The acks that it got meanwhile are lost then."""
MANY = 3_000
"""Once so many records count, no more than so many are written in the time that a record counts."""
FEW = 100
"""Once so many records count, a record replaces the one before and repeats its content, as long as both together are small."""
LITTLE = 32
"""The most settlements of a record that is small."""
RETRY_SECONDS = 0.05
MOST_BYTES = 256 << 10
"""The most bytes of one record, or half of the server's `max_payload` if that is less."""
_HEADER = header.encode([("Nats-TTL", "24h")])


class SettlementLog:
    """The settlements that one instance has put on record for one function."""

    def __init__(
        self, runtime: Runtime, function: str, instance: str, history: History, *, replicated: bool = False
    ) -> None:
        self._runtime = runtime
        self._history = history
        self._seconds = STALLED_SECONDS if replicated else COUNT_SECONDS
        """How long a record counts, at least."""
        self._newest = NOTHING
        self._recorded = Recorded(KV(runtime.connection), f"settled.{runtime.project}.{function}.", history)
        self.load = self._recorded.load
        self._ring = f"{PREFIX}{self._recorded.prefix}{instance}."
        self._slot = 0
        """The number of the key that is written next."""
        self._replaced: Segment | None = None
        """The record that is being replaced; it counts until the new one is confirmed."""
        self._slots = 1
        self._free: list[int] = []
        self._counting: deque[Segment] = deque()
        self._leaving: list[Segment] = []
        """Records that still count until the settlements in `_again` are written."""
        self._again: dict[tuple[SettledShard, str], set[int]] = {}
        """Settlements that are on record, and have to be written again."""
        self._sent = 0.0
        self._last = 0
        """Sequence of the last record."""
        self._epoch = runtime.connection.wire.epoch
        self._news = News()
        self._wanted: deque[SettledShard] = deque()
        self._busy = self._urgent = False  # a write is under way, or about to be; another follows it at once
        self._timer: asyncio.TimerHandle | None = None  # begins the next; none while one is under way

    def enqueue(self, shard: SettledShard) -> None:
        """Put what a shard has settled on record soon; `shard.recorded` is called once it is."""
        self._wanted.append(shard)
        self._begin_soon()

    def request_commit(self, shard: SettledShard) -> None:
        """Put it on record at once, or right after the write that is under way: a key waits."""
        if not shard.wanted:
            self._wanted.append(shard)
        self._urgent = True
        if not self._busy:
            self._begin()

    def _begin_soon(self) -> None:
        if not self._busy and self._timer is None:
            self._timer = self._runtime.loop.call_later(COMMIT_SECONDS, self._begin)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._busy = True
        self._runtime.connection.wire.due(self._write)  # together with the acks of the same messages

    def _write(self) -> None:
        if not self._history.confirmed:  # settlements may count no more, and the next owner reads this
            self._runtime.loop.call_later(RETRY_SECONDS, self._write)
            return
        now = time.monotonic()
        wait = self._sent + self._seconds / MANY - now
        if wait > 0 and len(self._counting) >= MANY:
            self._runtime.loop.call_later(wait, self._write)
            return
        taken = Settlements(sent=now, era=self._history.era)
        try:
            self._look_back(now)
            self._fill(taken)
            self._join(taken)
            if taken.fresh or taken.again:
                self._send(taken)
            else:
                self._busy = False  # the shards were let go meanwhile
        except Exception as error:  # whatever it is, nothing may wait for ever for this write
            if self._news.is_new(repr(error)):
                log.exception("settlements could not be recorded; it is tried again")
            self._fail(taken)

    def _look_back(self, now: float) -> None:
        """Find the records whose time is over, and the settlements in them that have to be written again."""
        epoch = self._runtime.connection.wire.epoch
        # After a reconnect the server may be another one, which has forgotten acks: all settlements are written again.
        lost, self._epoch = self._epoch != epoch, epoch
        counting = self._counting
        while counting and (lost or now - counting[0].sent >= self._seconds):
            written = counting.popleft()
            self._leaving.append(written)
            self._say_again(part for part in written.parts if lost or part[0].doubtful(now))

    def _fill(self, taken: Settlements) -> None:
        """Take the settlements that fit into one message; those that are written again fill at most half of it."""
        left = min(MOST_BYTES, self._runtime.connection.max_payload // 2) - NEWEST_BYTES
        room = left // 2
        while self._again and (most := fitting(room, next(iter(self._again))[1], taken.again)) > 0:
            (shard, name), known = next(iter(self._again.items()))
            oldest = sorted(known)[:most]
            known.difference_update(oldest)
            if not known:
                del self._again[shard, name]
            taken.again.append((shard, name, oldest))
            room -= size(name, oldest)
            left -= size(name, oldest)
        wanted = self._wanted
        while wanted and (most := fitting(left, wanted[0].name, taken.fresh)) > 0:
            shard = wanted[0]
            sequences = shard.take(most)
            if sequences:
                taken.fresh.append((shard, shard.name, sequences))
                left -= size(shard.name, sequences)
            if shard.wanted:
                break
            wanted.popleft()
        self._urgent = bool(wanted or self._again)

    def _join(self, taken: Settlements) -> None:
        """Replace the record before if many small ones count, because the next owner reads them all."""
        counting = self._counting
        if counting and len(counting) >= FEW and not taken.again and taken.fresh:
            before = counting[-1]
            if before.count + taken.count <= LITTLE:
                taken.before = self._replaced = counting.pop()
                self._free.append(self._slot)
                self._slot = before.slot

    def _send(self, taken: Settlements) -> None:
        settled: dict[str, list[int]] = {}
        before = taken.before.parts if taken.before is not None else ()
        for _, name, sequences in (*before, *taken.again, *taken.fresh):
            settled.setdefault(name, []).extend(sequences)
        taken.done = 0 if self._again else len(self._leaving)
        counting = self._counting if taken.done else self._leaving or self._counting
        first = counting[0].sequence if counting else self._last + 1
        for shard, _, _ in taken.fresh:
            self._newest = self._newest.newer(shard.newest())
        if not self._newest.sequence:
            self._newest = self._history.newest()
        record = SettlementRecord(
            first, {name: distances(each) for name, each in settled.items()}, self._newest
        )
        subject = f"{self._ring}{self._slot}".encode()
        body = msgspec.msgpack.encode(record)
        self._sent = taken.sent
        self._runtime.connection.publisher.send(subject, body, _HEADER, self._answered, taken)

    def _answered(
        self, taken: Settlements, _: bytes | None, answer: bytes, error: ServerError | None
    ) -> None:
        try:
            if error is not None:
                raise error
            self._last = self._runtime.connection.publisher.read(self._ring, answer).seq
        except ServerError as why:
            log.debug("settlements could not be recorded; it is tried again: %s", why)
            self._fail(taken)
            return
        self._news.over()
        if taken.era == self._history.era:
            self._counting.append(taken.written(self._last, self._slot))
            self._free += [each.slot for each in self._leaving[: taken.done]]
            del self._leaving[: taken.done]
        else:
            self._free.append(self._slot)
        self._replaced = None
        self._next_slot()
        try:
            for shard, _name, sequences in taken.fresh:
                shard.recorded(sequences)
        finally:
            self._busy = False  # not before: what is started here may want another write, which the wire would begin at once
            if self._urgent or self._again:
                self._begin()
            elif self._wanted:
                self._begin_soon()

    def _next_slot(self) -> None:
        if self._free:
            self._slot = self._free.pop()
        else:
            self._slot, self._slots = self._slots, self._slots + 1

    def _fail(self, taken: Settlements) -> None:
        """Write these settlements again later, as many as fit then."""
        self._runtime.loop.call_later(RETRY_SECONDS, self._write)
        if self._replaced is not None:  # what stands under its key has its content, at least
            self._counting.append(self._replaced)
            self._replaced = None
            self._next_slot()
        if taken.era == self._history.era:
            self._say_again(taken.again)
        for shard, _, sequences in taken.fresh:
            shard.requeue(sequences)

    def cut(self, _first: int) -> None:
        """The stream went back: no earlier record counts."""
        self._newest = NOTHING
        self._free += [written.slot for written in (*self._leaving, *self._counting)]
        self._leaving.clear()
        self._counting.clear()
        self._again.clear()
        self._replaced = None  # its key is the one that is written

    def forget(self, _first: int) -> None:
        """The bucket is another or an older one: all records that count are written again, and its sequences begin anew."""
        self._last = 0
        self._write_again()

    def looked(self, bucket: StreamState) -> None:
        """Write again the records that count, if somebody has purged them from the bucket."""
        if any(each.sequence < bucket.first for each in (*self._leaving, *self._counting)):
            self._write_again()

    def _write_again(self) -> None:
        for written in (*self._leaving, *self._counting):
            self._free.append(written.slot)
            self._say_again(written.parts)
        if self._replaced is not None:
            self._say_again(self._replaced.parts)
            self._replaced = None
        self._leaving.clear()
        self._counting.clear()
        if self._again and not self._busy:
            self._begin()

    def _say_again(self, parts: Iterable[RecordPart | CompactPart]) -> None:
        for shard, name, sequences in parts:
            self._again.setdefault((shard, name), set()).update(sequences)
