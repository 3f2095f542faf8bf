"""The parts of split events, kept in our stream `GATHER` until they are joined, and a record of each event.

Parts and records are written by compare-and-set: a part is stored once, since it expects nothing under its subject, and a new record
replaces the previous one by `Nats-Rollup`. Both have a TTL: an event that is never joined goes by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from runner.core import gather, header, identity, parts
from runner.core.gather import NONE, EventRecord
from runner.errors import NoStream, ServerError, Unconfirmed
from runner.jetstream import codes, tolerant
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.messages import StoredMessage, leader_message, purge, several, subjects
from runner.jetstream.ownstreams import AGAIN, GATHER
from runner.jetstream.place import Place

BUCKET = 1_000
"""Parts under one token of their subjects: the server answers a multi-get for up to 1,024 subjects."""
SUBJECT = "Jetrunner-Part-Subject"
"""The header with the subject that a part was published to."""
EXPIRED = "Jetrunner-Gather-Expired"
"""The header with the event, in the message that comes when the event's time is over."""
_EXPIRED = EXPIRED.encode()
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
DAY = 86_400
DONE_SECONDS = DAY
"""How long a joined event is remembered: else a late part would begin it again."""
KEPT_SECONDS = 31 * DAY
"""How long parts are kept after `expires` if nothing joins them, or after their function has failed: longer than its dead letter."""
TRIES = 20
AGAIN_SECONDS = 0.05
_TAKEN = frozenset({codes.WRONG_LAST_SEQUENCE, codes.WRONG_LAST_SEQUENCE_YET})
"""What a compare-and-set that came too late is refused with: 10071, or 10164 while the other message is not yet stored by most servers."""


class SplitEvent(Struct, frozen=True):
    """A split event, and the function that joins it."""

    project: str
    function: str
    batch: str

    @property
    def subject(self) -> str:
        """The beginning of the subjects of its messages."""
        return identity.event_subject(self.project, self.function, self.batch)

    @property
    def schedule(self) -> str:
        """The subject on which the end of its time is scheduled."""
        return identity.expiry_subject(self.project, self.function, self.batch)


class Gathered:
    """Reads and writes `GATHER`. All methods raise ServerError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, event: SplitEvent) -> tuple[EventRecord, int]:
        """The record of an event and its revision, from the leader; 0: there is none. Raises `NoStream` without `GATHER`."""
        subject = f"{event.subject}.state"
        try:
            found = await leader_message(self._connection, GATHER, {"last_by_subj": subject})
        except ServerError as error:
            if error.code != codes.STREAM_NOT_FOUND:
                raise
            raise NoStream(f"{GATHER}: {error}") from None
        if found is None:
            return NONE, 0
        record = tolerant.read(gather.decode, found.body, subject)
        return await self._anew(event) if record is None else record, found.sequence

    async def _anew(self, event: SplitEvent) -> EventRecord:
        """Make an event's record from the stored parts, because the stored record cannot be read."""
        bits, count = 0, -1
        async for subject, _ in subjects(self._connection, GATHER, f"{event.subject}.*.*"):
            if (index := self._index(event, subject)) is None:
                continue
            bits |= 1 << index
            if count < 0:
                part = await leader_message(self._connection, GATHER, {"last_by_subj": subject})
                stack = parts.read(part.header) if part is not None else ()
                count = stack[-1].count if stack else -1
        return EventRecord(bits=f"{bits:x}", count=count)

    async def write(self, event: SplitEvent, record: EventRecord, revision: int, seconds: int) -> bool:
        """Replace the record of this revision; False if another record was written since."""
        pairs = [
            (_EXPECTED, str(revision)),
            ("Nats-Rollup", "sub"),
            ("Nats-TTL", f"{seconds}s"),
        ]
        try:
            await self._connection.publisher.publish(f"{event.subject}.state", gather.encode(record), pairs)
        except ServerError as error:
            if error.code not in _TAKEN:
                raise
            return False
        return True

    async def store(
        self, event: SplitEvent, index: int, body: bytes, headers: Iterable[tuple[str, str]], seconds: int
    ) -> Place | None:
        """Store a part. It is there when this returns, whichever instance has stored it; gives its place, None if another has."""
        subject = self._place(event, index)
        pairs = [*headers, (_EXPECTED, "0"), ("Nats-TTL", f"{seconds}s")]
        for _ in range(TRIES):
            try:
                ack = await self._connection.publisher.publish(subject, body, pairs)
            except ServerError as error:
                if error.code not in _TAKEN:
                    raise
            else:
                return Place(GATHER, ack.seq, subject)
            # The leader refuses a second part even while the first is only proposed (measured on three servers).
            # A part that it can read is stored.
            if await leader_message(self._connection, GATHER, {"last_by_subj": subject}) is not None:
                return None
            await asyncio.sleep(AGAIN_SECONDS)
        raise Unconfirmed(f"part {index} of {event.batch} is neither stored nor taken")

    async def fetch(self, event: SplitEvent, indexes: Sequence[int], most: int) -> dict[int, StoredMessage]:
        """The parts of these indexes. Raises `TooMany` if they have more than `most` bytes, `PartsMissing` if one cannot be read."""
        found: dict[int, StoredMessage] = {}
        size = 0
        for bucket in sorted({index // BUCKET for index in indexes}):
            needed = {index for index in indexes if index // BUCKET == bucket}
            for _ in range(TRIES):
                for stored in await self._bucket(event, bucket):
                    index = self._index(event, stored.subject)
                    if index is not None and index in needed and index not in found:
                        found[index] = stored
                        size += len(stored.body)
                if size > most:
                    raise TooMany(size)
                if needed <= found.keys():
                    break
                await asyncio.sleep(
                    AGAIN_SECONDS
                )  # a replica has answered that does not have all of them yet
            else:
                raise PartsMissing(f"{len(needed - found.keys())} parts of {event.batch} cannot be read")
        return found

    async def _bucket(self, event: SplitEvent, bucket: int) -> list[StoredMessage]:
        found: list[StoredMessage] = []
        after: int | None = 0
        while after is not None:
            ask = {"multi_last": [f"{event.subject}.{bucket}.*"], "batch": 2 * BUCKET, "seq": after + 1}
            more, after = await several(self._connection, GATHER, ask)
            found += more
            if after == 0:  # more subjects than parts: somebody else has published there, too
                raise ServerError(f"more stands under {event.subject} than its parts")
        return found

    async def is_there(self, runner: str) -> bool:
        """Whether the message that runs an event's function still stands in its stream; `runner` is empty if the record names none."""
        stream, _, sequence = runner.rpartition(":")
        if not sequence.isdecimal():
            return False
        ask = {"seq": int(sequence)}
        return await leader_message(self._connection, stream, ask, codes.NOTHING_STORED) is not None

    async def keep(self, event: SplitEvent, found: dict[int, StoredMessage]) -> None:
        """Keep parts for a redrive: each is stored again, in place of the one that would expire sooner."""

        async def store(part: tuple[int, StoredMessage]) -> None:
            index, stored = part
            kept = own(header.pairs(stored.header or b""))
            where = (SUBJECT, published_to(stored))
            pairs = [*kept, where, ("Nats-Rollup", "sub"), ("Nats-TTL", f"{KEPT_SECONDS}s")]
            await self._connection.publisher.publish(self._place(event, index), stored.body, pairs)

        await map_concurrently(store, [*found.items()])

    async def schedule(self, event: SplitEvent, target: str, at: datetime, beginning: str) -> bool:
        """Schedule a message to `target` for the end of an event's time; False if this was done before for the same `beginning`.

        The server keeps one schedule for an event, the last one.
        """
        pairs = [
            ("Nats-Schedule", f"@at {at.astimezone(UTC).isoformat().replace('+00:00', 'Z')}"),
            ("Nats-Schedule-Target", target),
            ("Nats-Msg-Id", f"expire:{event.project}.{event.function}.{event.batch}:{beginning}"),
            (EXPIRED, event.batch),
        ]
        return not (await self._connection.publisher.publish(event.schedule, b"", pairs)).duplicate

    async def clear(self, event: SplitEvent) -> None:
        """Remove the parts of an event, and the schedule of its end."""
        await purge(self._connection, GATHER, f"{event.subject}.*.*")
        await self.unschedule(event)

    async def unschedule(self, event: SplitEvent) -> None:
        """Remove the schedule of an event's end."""
        await purge(self._connection, AGAIN, event.schedule)

    @staticmethod
    def _place(event: SplitEvent, index: int) -> str:
        return f"{event.subject}.{index // BUCKET}.{index}"

    def _index(self, event: SplitEvent, subject: str) -> int | None:
        """The index of the part under a subject; None if it is not a part's subject."""
        index = parts.index(subject.rpartition(".")[2])
        return index if index is not None and subject == self._place(event, index) else None


class PartsMissing(Unconfirmed):
    """Parts that the record tells of cannot be read."""


class TooMany(Exception):  # noqa: N818  # named by what happened
    """The parts of an event have more bytes than its function takes."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def own(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """A part's own headers, without those that the server acts on (a rollup would replace another part) or that we add."""
    return [pair for pair in pairs if not _is_added(pair[0].lower())]


def own_block(block: bytes | None) -> bytes:
    """The header block of a stored part with the part's own headers alone: its function may copy them into an output."""
    return header.without(block or b"", _is_added)


def _is_added(name: str) -> bool:
    return name.startswith("nats-") or name == SUBJECT.lower()


def published_to(stored: StoredMessage) -> str:
    """The subject that a part was published to."""
    return header.parse(stored.header or b"").get(SUBJECT, "")


def ended_batch(block: bytes | None) -> str:
    """The event whose time is over, by a message's headers; empty if the message is no such notice."""
    text = (header.get(block or b"", _EXPIRED) or b"").decode("ascii", "replace")
    return text if parts.is_batch(text) else ""
