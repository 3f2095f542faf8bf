"""Leases and claims: keys of the bucket that are taken by compare-and-set, and may run out by themselves.

A revision is the key's last sequence in the bucket's stream; it fences: whoever writes with an old one is refused
(error 10071, measured on 2.15). A lease is written with a TTL (`Nats-TTL`, at least a second) and gone after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from runner.core import checked, shown
from runner.core import header as headers
from runner.errors import NoStream, ServerError
from runner.jetstream import codes, ownstreams
from runner.jetstream.bucket import PREFIX
from runner.jetstream.connection import Connection
from runner.jetstream.inbox import MORE_SECONDS
from runner.jetstream.messages import leader_message, subjects
from runner.jetstream.stray import pass_over
from runner.jetstream.wire import Unsubscribe

TOO_MANY = 413
"""Over 1,024 keys match: the server names none of them (measured on 2.15)."""
BEHIND_SECONDS = 0.01
AT_ONCE = 64
"""Keys that the leader is asked for at once."""
EVERYTHING = 1 << 30
"""A batch without an end, but for the server's limit of bytes in one answer."""


class Entry(msgspec.Struct, frozen=True):
    """A key's value and the revision that a compare-and-set must name."""

    value: bytes
    revision: int


def key_of(subject: bytes) -> str | None:
    """The key that stands on a subject of the bucket; None for one that no instance of ours has written."""
    try:
        return subject.decode().removeprefix(PREFIX)
    except UnicodeDecodeError:
        pass_over(shown.raw(subject), "it is no UTF-8")
        return None


class Leases:
    """Reads and compare-and-set writes of one connection's bucket keys."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(self, key: str, value: bytes, ttl: str) -> int:
        """Write a key that is gone after `ttl`, for example `10s`; returns its revision."""
        ack = await self._connection.publisher.publish(PREFIX + key, value, [("Nats-TTL", ttl)])
        return ack.seq

    async def swap(self, key: str, value: bytes, revision: int, ttl: str = "") -> int | None:
        """Write if the key's revision is still this one (0: there is none); the new revision, None when it moved.

        With a `ttl`, for example `10s`, the key is gone after it.
        """
        pairs = [("Nats-Expected-Last-Subject-Sequence", str(revision))]
        if ttl:
            pairs.append(("Nats-TTL", ttl))
        try:
            ack = await self._connection.publisher.publish(PREFIX + key, value, pairs)
        except ServerError as error:
            if error.code == codes.WRONG_LAST_SEQUENCE:
                return None
            raise
        return ack.seq

    async def latest(self, key: str) -> Entry | None:
        """The key's entry, None when it is not there; from the bucket's leader: a replica may not know of the last write yet."""
        found = await leader_message(
            self._connection, ownstreams.BUCKET_STREAM, {"last_by_subj": PREFIX + key}
        )
        return Entry(found.body, found.sequence) if found is not None else None

    async def read(self, patterns: list[str]) -> dict[str, Entry]:
        """Every key that matches (NATS wildcards), as the bucket has it now; one round trip for up to 1,024 keys."""
        subjects = [PREFIX + pattern for pattern in patterns]
        found, after = await self._ask({"multi_last": subjects})
        if after is None:
            return found
        # One server goes through the keys by sequence: one that is written meanwhile moves on, and is not passed over.
        for subject in subjects:
            after = 0
            while after is not None:
                more, after = await self._ask(
                    {"next_by_subj": subject, "seq": after + 1, "batch": EVERYTHING}
                )
                found |= more
        return found

    async def standing(self, pattern: str) -> dict[str, Entry]:
        """Like `read`, from the bucket's leader: a question for each key."""
        names = [
            name async for name, _ in subjects(self._connection, ownstreams.BUCKET_STREAM, PREFIX + pattern)
        ]
        keys = [key for name in names if (key := key_of(name.encode("utf-8", "surrogateescape"))) is not None]
        found: dict[str, Entry] = {}
        for begin in range(0, len(keys), AT_ONCE):
            part = keys[begin : begin + AT_ONCE]
            entries = await asyncio.gather(*map(self.latest, part))
            found |= {key: entry for key, entry in zip(part, entries, strict=True) if entry is not None}
        return found

    async def written_since(self, pattern: str, first: Callable[[Entry], int]) -> list[Entry]:
        """What was written to these keys from the sequence on that the last write tells, by the bucket's leader."""
        subject = PREFIX + pattern
        # The last one is read anew each turn: it may run out, or be written again, in between.
        while (last := await self.latest(pattern)) is not None:
            after: int | None = min(first(last), last.revision) - 1
            found: dict[str, Entry] = {}
            while after is not None:
                more, after = await self._ask(
                    {"next_by_subj": subject, "seq": after + 1, "batch": EVERYTHING}
                )
                found |= more
            if any(entry.revision >= last.revision for entry in found.values()):
                return list(found.values())
            await asyncio.sleep(BEHIND_SECONDS)  # it was a replica that answered, and it does not know yet
        return []

    async def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Entry], int | None]:
        """An answer of many messages, and the sequence after which there are more; None when it is whole."""
        connection = self._connection
        found: dict[str, Entry] = {}
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def arrived(_: None, header: bytes | None, body: bytes, error: ServerError | None) -> bool:
            if done.done():
                return False
            if error is not None:
                done.set_exception(error)
                return False
            block = header or b""
            name, sequence = headers.last(block, b"Nats-Subject"), headers.last(block, b"Nats-Sequence")
            if name is None or sequence is None:  # a status; what is stored may begin like one
                done.set_result(block)
                return False
            revision = checked.number(sequence)
            if revision and (key := key_of(name)) is not None:
                found[key] = Entry(body, revision)
            return True

        subject = f"$JS.API.DIRECT.GET.{ownstreams.BUCKET_STREAM}".encode()
        reply = connection.inbox.expect(arrived, None, subject, MORE_SECONDS)
        connection.wire.publish(subject, msgspec.json.encode(request), reply)
        try:
            block = await done
        finally:
            connection.inbox.forget(reply)
        code, text = headers.status(block) or (0, "")
        if code == TOO_MANY:
            return found, 0
        if code not in (204, 404):
            raise NoStream(f"the bucket does not answer: {code} {text}")
        left = checked.number(headers.get(block, b"Nats-Num-Pending") or b"")
        return found, (
            checked.number(headers.get(block, b"Nats-Last-Sequence") or b"") or 0
        ) if left else None

    async def watch(self, pattern: str, changed: Callable[[str, bytes], None]) -> Unsubscribe:
        """Call `changed(key, value)` for every write from now on; what runs out by its TTL is not told."""

        def arrived(subject: bytes, _reply: bytes, _header: bytes | None, body: bytes) -> None:
            key = key_of(subject)
            if key is not None:
                changed(key, body)

        unsubscribe: Unsubscribe = await self._connection.wire.subscribe(PREFIX + pattern, arrived)
        return unsubscribe
