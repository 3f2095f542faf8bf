"""The parts of split events as our stream `GATHER` keeps them until they are joined, and a record of each event.

A part is stored once: the stream refuses a second message under a subject. The record replaces the one before it by `Nats-Rollup`,
and is written by compare-and-set. Both have a TTL: what is never joined goes by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from runner.core import gather, header, identity, parts
from runner.core.gather import NONE, Record
from runner.errors import NoStream, ServerError, Unconfirmed
from runner.jetstream import codes, tolerant
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.messages import Stored, leader_message, purge, several, subjects
from runner.jetstream.ownstreams import AGAIN, GATHER
from runner.jetstream.place import Place

BUCKET = 1_000
"""Parts under one token of their subjects: a question for many is answered for up to 1,024 subjects."""
SUBJECT = "Jetrunner-Part-Subject"
"""What a part was published to."""
EXPIRED = "Jetrunner-Gather-Expired"
"""In the message that comes when the time of an event is over: which event."""
DAY = 86_400
DONE_SECONDS = DAY
"""How long it is known that an event was joined: a part that comes later would begin it again."""
KEPT_SECONDS = 31 * DAY
"""How long the parts of an event are kept whose function has failed: longer than its dead letter."""
TRIES = 20
AGAIN_SECONDS = 0.05
_FULL = "maximum messages per subject"


class Event(Struct, frozen=True):
    """A split event, and the function that joins it."""

    project: str
    function: str
    batch: str

    @property
    def subject(self) -> str:
        """What the subjects of its messages begin with."""
        return identity.event_subject(self.project, self.function, self.batch)

    @property
    def schedule(self) -> str:
        """Where the end of its time is scheduled."""
        return identity.expiry_subject(self.project, self.function, self.batch)


class Gathered:
    """Reads and writes of `GATHER`. All raise ServerError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, event: Event) -> tuple[Record, int]:
        """The record of an event and its revision, by the leader; 0: there is none. Raises `NoStream` without `GATHER`."""
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

    async def _anew(self, event: Event) -> Record:
        """The record of an event by the parts that are stored: what stands in its place cannot be read."""
        bits, count = 0, -1
        async for subject, _ in subjects(self._connection, GATHER, f"{event.subject}.*.*"):
            if (index := self._index(event, subject)) is None:
                continue
            bits |= 1 << index
            if count < 0:
                part = await leader_message(self._connection, GATHER, {"last_by_subj": subject})
                stack = parts.read(part.header) if part is not None else ()
                count = stack[-1].count if stack else -1
        return Record(bits=f"{bits:x}", count=count)

    async def write(self, event: Event, record: Record, revision: int, seconds: int) -> bool:
        """Write the record in the place of the one of this revision; False where another has been written since."""
        pairs = [
            ("Nats-Expected-Last-Subject-Sequence", str(revision)),
            ("Nats-Rollup", "sub"),
            ("Nats-TTL", f"{seconds}s"),
        ]
        try:
            await self._connection.publisher.publish(f"{event.subject}.state", gather.encode(record), pairs)
        except ServerError as error:
            if error.code not in (codes.WRONG_LAST_SEQUENCE, codes.WRONG_LAST_SEQUENCE_YET):
                raise
            return False
        return True

    async def store(
        self, event: Event, index: int, body: bytes, headers: Iterable[tuple[str, str]], seconds: int
    ) -> Place | None:
        """Store a part; it is there when this returns, whichever instance has stored it. Where: None when it was another."""
        subject = self._place(event, index)
        pairs = [*headers, ("Nats-TTL", f"{seconds}s")]
        for _ in range(TRIES):
            try:
                ack = await self._connection.publisher.publish(subject, body, pairs)
            except ServerError as error:
                if error.code != codes.STORE_FAILED or _FULL not in str(error):
                    raise
            else:
                return Place(GATHER, ack.seq, subject)
            # The leader refuses a second one while the first is only proposed (measured on three servers): what it can
            # read is stored.
            if await leader_message(self._connection, GATHER, {"last_by_subj": subject}) is not None:
                return None
            await asyncio.sleep(AGAIN_SECONDS)
        raise Unconfirmed(f"part {index} of {event.batch} is neither stored nor taken")

    async def fetch(self, event: Event, indexes: Sequence[int], most: int) -> dict[int, Stored]:
        """The parts of these indexes. Raises `TooMany` where they have more bytes, and Unconfirmed where one does not come."""
        found: dict[int, Stored] = {}
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
                raise Unconfirmed(f"{len(needed - found.keys())} parts of {event.batch} cannot be read")
        return found

    async def _bucket(self, event: Event, bucket: int) -> list[Stored]:
        found: list[Stored] = []
        after: int | None = 0
        while after is not None:
            ask = {"multi_last": [f"{event.subject}.{bucket}.*"], "batch": 2 * BUCKET, "seq": after + 1}
            more, after = await several(self._connection, GATHER, ask)
            found += more
            if after == 0:  # somebody has published there, too: these are more subjects than parts
                raise ServerError(f"more stands under {event.subject} than its parts")
        return found

    async def keep(self, event: Event, found: dict[int, Stored]) -> None:
        """Keep parts for a redrive: they are stored again, in the place of those that go sooner."""

        async def store(part: tuple[int, Stored]) -> None:
            index, stored = part
            kept = own(header.pairs(stored.header or b""))
            where = (SUBJECT, published_to(stored))
            pairs = [*kept, where, ("Nats-Rollup", "sub"), ("Nats-TTL", f"{KEPT_SECONDS}s")]
            await self._connection.publisher.publish(self._place(event, index), stored.body, pairs)

        await map_concurrently(store, [*found.items()])

    async def schedule(self, event: Event, target: str, at: datetime, first: str) -> None:
        """Have a message come to `target` when the time of an event is over; `first` is the message that it began with.

        The server keeps one schedule of an event, the last. An event whose record was lost begins anew, with another message.
        """
        pairs = [
            ("Nats-Schedule", f"@at {at.astimezone(UTC).isoformat().replace('+00:00', 'Z')}"),
            ("Nats-Schedule-Target", target),
            ("Nats-Msg-Id", f"expire:{event.project}.{event.function}.{event.batch}:{first}"),
            (EXPIRED, event.batch),
        ]
        await self._connection.publisher.publish(event.schedule, b"", pairs)

    async def clear(self, event: Event) -> None:
        """Remove the parts of an event, and the end of its time."""
        await purge(self._connection, GATHER, f"{event.subject}.*.*")
        await self.unschedule(event)

    async def unschedule(self, event: Event) -> None:
        """Remove the end of its time."""
        await purge(self._connection, AGAIN, event.schedule)

    @staticmethod
    def _place(event: Event, index: int) -> str:
        return f"{event.subject}.{index // BUCKET}.{index}"

    def _index(self, event: Event, subject: str) -> int | None:
        """Which part stands under a subject; None where somebody else has stored something there."""
        index = parts.index(subject.rpartition(".")[2])
        return index if index is not None and subject == self._place(event, index) else None


class TooMany(Exception):  # noqa: N818  # named by what happened
    """The parts of an event have more bytes than its function takes."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def own(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """A part's own headers: none that the server acts on (a rollup would replace another part), or that we add."""
    return [
        pair
        for pair in pairs
        if not (name := pair[0].lower()).startswith("nats-") and name != SUBJECT.lower()
    ]


def published_to(stored: Stored) -> str:
    """The subject that a part was published to."""
    return header.parse(stored.header or b"").get(SUBJECT, "")
