"""The bucket: small facts that outlive a process, one under each key, in a key-value bucket of NATS.

A revision is the key's last sequence in the bucket's stream. It acts as a fence: a compare-and-set with an older revision is
refused. A key that is written with a TTL (`Nats-TTL`, at least 1 s) is gone after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from runner.core import header as headers
from runner.core import shown
from runner.errors import NoResponders, NoStream, PermissionDenied, ServerError
from runner.jetstream import codes, messages, ownstreams
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.ownstreams import BUCKET_STREAM
from runner.jetstream.publisher import CONFIRM_SECONDS, retry_until, unanswered
from runner.jetstream.server import until_led
from runner.jetstream.tolerant import pass_over
from runner.jetstream.wire import Unsubscribe

T = TypeVar("T")

PREFIX = f"$KV.{ownstreams.BUCKET}."
PATIENCE_SECONDS = 30.0
BEHIND_SECONDS = 0.01
EVERYTHING = 1 << 30
"""A batch limited only by the server's limit of bytes in one answer."""


class Entry(NamedTuple):
    """A key's value, and the revision for a compare-and-set; revision 0: there is no such key."""

    value: bytes
    revision: int


NOTHING = Entry(b"", 0)


class KV:
    """Reads the bucket's keys, and writes them with confirmation.

    With `patience`, `get`, `put`, `swap` and `remove` repeat after temporary errors for so many seconds, and make the bucket again
    if it is gone. Without it, each is tried once.
    """

    def __init__(self, connection: Connection, patience: float | None = None) -> None:
        self._connection = connection
        self._patience = patience
        self._may_ask_leader = True

    async def _try(self, once: Callable[[], Awaitable[T]]) -> T:
        if self._patience is None:
            return await once()

        async def mending() -> T:
            try:
                return await once()
            except NoStream:
                await ownstreams.restore(self._connection, BUCKET_STREAM)
                raise

        return await retry_until(mending, self._patience)

    # -- reading ----------------------------------------------------------------------------------------

    async def leader(self, key: str) -> Entry:
        """The key's entry, read from the bucket's leader, because a replica may lag.

        With wildcards, the entry of the key that was written last.
        """
        found = await messages.leader_message(self._connection, BUCKET_STREAM, {"last_by_subj": PREFIX + key})
        return Entry(found.body, found.sequence) if found is not None else NOTHING

    async def get(self, key: str) -> Entry:
        """The key's entry; from any replica if the credentials do not allow to ask the leader. A bucket that is gone is made again."""

        async def once() -> Entry:
            try:
                return await self.leader(key)
            except ServerError as error:
                if error.code != codes.STREAM_NOT_FOUND:
                    raise
                await ownstreams.restore(self._connection, BUCKET_STREAM)
            try:
                return await self.leader(key)
            except ServerError as error:
                if error.code != codes.STREAM_NOT_FOUND:  # it may not be made
                    raise
                return NOTHING

        if self._may_ask_leader:
            try:
                return await self._try(once)
            except PermissionDenied:
                self._may_ask_leader = False
        subject = f"$JS.API.DIRECT.GET.{BUCKET_STREAM}.{PREFIX}{key}"
        block, body = await self._try(partial(self._connection.request_whole, subject, b""))
        sequence = headers.last(block or b"", b"Nats-Sequence")
        return Entry(body, int(sequence)) if sequence else NOTHING

    async def keys(self, pattern: str) -> list[str]:
        """All keys that match (NATS wildcards), read from the bucket's leader."""
        found = messages.subjects(self._connection, BUCKET_STREAM, PREFIX + pattern)
        return [subject.removeprefix(PREFIX) async for subject, _ in found]

    async def read(self, patterns: Iterable[str]) -> dict[str, Entry]:
        """All entries that match, from a replica; one round trip for up to 1,024 keys."""
        subjects = [PREFIX + pattern for pattern in patterns]
        found, after = await self._ask({"multi_last": subjects})
        if after is not None:
            # One server goes through the keys by sequence: a key that is written meanwhile moves on, and is not passed over.
            for subject in subjects:
                found |= await self._since(subject, 1)
        return found

    async def found(self, patterns: Sequence[str]) -> dict[str, Entry]:
        """Like `read`, but waits for a bucket without a leader; no entries if there is no bucket, because nothing has ever run."""
        ask = partial(retry_until, partial(self.read, patterns), PATIENCE_SECONDS, passes=unanswered)
        try:
            return await until_led(self._connection, BUCKET_STREAM, f"{PREFIX}>", ask)
        except NoResponders:
            return {}

    async def read_leader(self, pattern: str) -> dict[str, Entry]:
        """All entries that match, read from the bucket's leader with one request for each key."""
        names = (name.encode("utf-8", "surrogateescape") for name in await self.keys(pattern))
        keys = [key for name in names if (key := key_of(name)) is not None]
        entries = zip(keys, await map_concurrently(self.leader, keys), strict=True)
        return {key: entry for key, entry in entries if entry.revision}

    async def written_since(self, pattern: str, first: Callable[[Entry], int]) -> list[Entry]:
        """Entries of these keys that were written at or after a sequence, up to date with the bucket's leader.

        `first` gives the sequence from the entry that was written last.
        """
        # The last entry is read again each turn: it may expire, or be written again, in between.
        while (last := await self.leader(pattern)).revision:
            found = await self._since(PREFIX + pattern, min(first(last), last.revision))
            if any(entry.revision >= last.revision for entry in found.values()):
                return list(found.values())
            await asyncio.sleep(BEHIND_SECONDS)  # a replica has answered that lags
        return []

    async def _since(self, subject: str, sequence: int) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        after: int | None = sequence - 1
        while after is not None:
            more, after = await self._ask({"next_by_subj": subject, "seq": after + 1, "batch": EVERYTHING})
            found |= more
        return found

    async def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Entry], int | None]:
        """Ask for many messages; gives them and the sequence after which there are more, None if there are none."""
        found, after = await messages.several(self._connection, BUCKET_STREAM, request)
        keys = ((key_of(stored.subject.encode("utf-8", "surrogateescape")), stored) for stored in found)
        return {key: Entry(stored.body, stored.sequence) for key, stored in keys if key is not None}, after

    async def watch(self, pattern: str, changed: Callable[[str, bytes], None]) -> Unsubscribe:
        """Call `changed(key, value)` for every write from now on, also for one that the server then refuses.

        Keys that expire by their TTL are not reported.
        """

        def arrived(subject: bytes, _reply: bytes, _header: bytes | None, body: bytes) -> None:
            key = key_of(subject)
            if key is not None:
                changed(key, body)

        unsubscribe: Unsubscribe = await self._connection.wire.subscribe(PREFIX + pattern, arrived)
        return unsubscribe

    # -- writing ----------------------------------------------------------------------------------------

    async def put(self, key: str, value: bytes, ttl: str = "", timeout: float = CONFIRM_SECONDS) -> int:
        """Write a key whatever its value; returns its revision once confirmed. With a `ttl`, such as `10s`, the key is gone after it."""
        pairs = [("Nats-TTL", ttl)] if ttl else []
        publish = self._connection.publisher.publish
        return (await self._try(partial(publish, PREFIX + key, value, pairs, timeout=timeout))).seq

    async def swap(self, key: str, value: bytes, revision: int, ttl: str = "") -> int | None:
        """Write if the key's revision is still `revision` (0: there is no key); gives the new revision, None if it has changed.

        None also if an earlier try was stored, but its answer was lost.
        """
        pairs = [("Nats-TTL", ttl)] if ttl else []
        return await self._try(partial(messages.swap, self._connection, PREFIX + key, value, revision, pairs))

    async def remove(self, pattern: str, revision: int | None = None) -> bool:
        """Remove keys without a marker; with `revision`, only values up to it. Gives whether there were any."""
        purge = partial(messages.purge, self._connection, BUCKET_STREAM, PREFIX + pattern, revision)
        return await self._try(purge) > 0


def key_of(subject: bytes) -> str | None:
    """The key of a subject of the bucket; None if the subject is not UTF-8, which no instance of ours writes."""
    try:
        return subject.decode().removeprefix(PREFIX)
    except UnicodeDecodeError:
        pass_over(shown.raw(subject), "it is no UTF-8")
        return None
