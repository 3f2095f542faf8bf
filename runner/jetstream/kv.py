"""The bucket: small facts that outlive a process, one a key, in a key-value bucket of NATS.

A revision is the key's last sequence in the bucket's stream; it fences: what names an older one in a compare-and-set is refused.
A key that is written with a TTL (`Nats-TTL`, at least a second) is gone after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from runner.core import header as headers
from runner.core import shown
from runner.errors import NoStream, PermissionDenied, ServerError
from runner.jetstream import codes, messages, ownstreams
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.ownstreams import BUCKET_STREAM
from runner.jetstream.publisher import CONFIRM_SECONDS, retry_until
from runner.jetstream.tolerant import pass_over
from runner.jetstream.wire import Unsubscribe

T = TypeVar("T")

PREFIX = f"$KV.{ownstreams.BUCKET}."
PATIENCE_SECONDS = 30.0
BEHIND_SECONDS = 0.01
EVERYTHING = 1 << 30
"""A batch without an end, but for the server's limit of bytes in one answer."""


class Entry(NamedTuple):
    """A key's value, and the revision that a compare-and-set must name; revision 0: it is not there."""

    value: bytes
    revision: int


NOTHING = Entry(b"", 0)


class KV:
    """Reads and confirmed writes of the bucket's keys.

    With `patience`, `get`, `put`, `swap` and `remove` repeat for so many seconds what may pass, and make a bucket again that
    is gone; without, each is tried once.
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
                await ownstreams.ensure(self._connection, BUCKET_STREAM)
                raise

        return await retry_until(mending, self._patience)

    # -- reading ----------------------------------------------------------------------------------------

    async def leader(self, key: str) -> Entry:
        """The key's entry, by the bucket's leader: a replica may still show what was written or removed just now.

        With wildcards, the entry of the key that was written last.
        """
        found = await messages.leader_message(self._connection, BUCKET_STREAM, {"last_by_subj": PREFIX + key})
        return Entry(found.body, found.sequence) if found is not None else NOTHING

    async def get(self, key: str) -> Entry:
        """The same; by any replica where the credentials do not allow to ask the leader. A bucket that is gone is made again."""

        async def once() -> Entry:
            try:
                return await self.leader(key)
            except ServerError as error:
                if error.code != codes.STREAM_NOT_FOUND:
                    raise
                await ownstreams.ensure(self._connection, BUCKET_STREAM)
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
        """Every key that matches (NATS wildcards), by the bucket's leader."""
        found = messages.subjects(self._connection, BUCKET_STREAM, PREFIX + pattern)
        return [subject.removeprefix(PREFIX) async for subject, _ in found]

    async def read(self, patterns: Iterable[str]) -> dict[str, Entry]:
        """Every key that matches, as a replica has it now; one round trip for up to 1,024 keys."""
        subjects = [PREFIX + pattern for pattern in patterns]
        found, after = await self._ask({"multi_last": subjects})
        if after is not None:
            # One server goes through the keys by sequence: one that is written meanwhile moves on, and is not passed over.
            for subject in subjects:
                found |= await self._since(subject, 1)
        return found

    async def read_leader(self, pattern: str) -> dict[str, Entry]:
        """Like `read`, by the bucket's leader: a question for each key."""
        names = (name.encode("utf-8", "surrogateescape") for name in await self.keys(pattern))
        keys = [key for name in names if (key := key_of(name)) is not None]
        entries = zip(keys, await map_concurrently(self.leader, keys), strict=True)
        return {key: entry for key, entry in entries if entry.revision}

    async def written_since(self, pattern: str, first: Callable[[Entry], int]) -> list[Entry]:
        """What was written to these keys from the sequence on that the last write tells, by the bucket's leader."""
        # The last one is read anew each turn: it may run out, or be written again, in between.
        while (last := await self.leader(pattern)).revision:
            found = await self._since(PREFIX + pattern, min(first(last), last.revision))
            if any(entry.revision >= last.revision for entry in found.values()):
                return list(found.values())
            await asyncio.sleep(BEHIND_SECONDS)  # it was a replica that answered, and it does not know yet
        return []

    async def _since(self, subject: str, sequence: int) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        after: int | None = sequence - 1
        while after is not None:
            more, after = await self._ask({"next_by_subj": subject, "seq": after + 1, "batch": EVERYTHING})
            found |= more
        return found

    async def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Entry], int | None]:
        """An answer of many messages, and the sequence after which there are more; None when it is whole."""
        found, after = await messages.several(self._connection, BUCKET_STREAM, request)
        keys = ((key_of(stored.subject.encode("utf-8", "surrogateescape")), stored) for stored in found)
        return {key: Entry(stored.body, stored.sequence) for key, stored in keys if key is not None}, after

    async def watch(self, pattern: str, changed: Callable[[str, bytes], None]) -> Unsubscribe:
        """Call `changed(key, value)` for every write from now on, also for one that the server refuses then.

        What runs out by its TTL is not told.
        """

        def arrived(subject: bytes, _reply: bytes, _header: bytes | None, body: bytes) -> None:
            key = key_of(subject)
            if key is not None:
                changed(key, body)

        unsubscribe: Unsubscribe = await self._connection.wire.subscribe(PREFIX + pattern, arrived)
        return unsubscribe

    # -- writing ----------------------------------------------------------------------------------------

    async def put(self, key: str, value: bytes, ttl: str = "", timeout: float = CONFIRM_SECONDS) -> int:
        """Write a key, whatever stands there; it is confirmed when this returns its revision. With a `ttl`, as `10s`, it is gone after it."""
        pairs = [("Nats-TTL", ttl)] if ttl else []
        publish = self._connection.publisher.publish
        return (await self._try(partial(publish, PREFIX + key, value, pairs, timeout=timeout))).seq

    async def swap(self, key: str, value: bytes, revision: int, ttl: str = "") -> int | None:
        """Write if the key's revision is still this one (0: it is not there); the new revision, None when it moved.

        None also when an earlier try was stored without our hearing of it.
        """
        pairs = [("Nats-TTL", ttl)] if ttl else []
        return await self._try(partial(messages.swap, self._connection, PREFIX + key, value, revision, pairs))

    async def remove(self, pattern: str, revision: int | None = None) -> bool:
        """Remove keys and leave no marker behind; with a revision, only what has moved no further. Whether anything was there."""
        purge = partial(messages.purge, self._connection, BUCKET_STREAM, PREFIX + pattern, revision)
        return await self._try(purge) > 0


def key_of(subject: bytes) -> str | None:
    """The key that stands on a subject of the bucket; None for one that no instance of ours has written."""
    try:
        return subject.decode().removeprefix(PREFIX)
    except UnicodeDecodeError:
        pass_over(shown.raw(subject), "it is no UTF-8")
        return None
