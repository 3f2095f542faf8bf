"""Leases and claims: keys of the bucket that are taken by compare-and-set, and may run out by themselves.

A revision is the key's last sequence in the bucket's stream; it fences: whoever writes with an old one is refused
(error 10071, measured on 2.15). A lease is written with a TTL (`Nats-TTL`, at least a second) and gone after it.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

import msgspec

from runner.core import header as headers
from runner.errors import NoStream, ServerError, Unconfirmed
from runner.jetstream import ownstreams
from runner.jetstream.bucket import PREFIX
from runner.jetstream.connection import Connection
from runner.jetstream.wire import Unsubscribe

WRONG_LAST_SEQUENCE = 10071
NO_MESSAGE = 10037
READ_SECONDS = 2.0


class Entry(msgspec.Struct, frozen=True):
    """A key's value and the revision that a compare-and-set must name."""

    value: bytes
    revision: int


class Leases:
    """Reads and compare-and-set writes of one connection's bucket keys."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(self, key: str, value: bytes, ttl: float) -> int:
        """Write a lease that runs out after `ttl` seconds; returns its revision."""
        pairs = [("Nats-TTL", f"{ttl:g}s")]
        ack = await self._connection.publisher.publish(PREFIX + key, value, pairs, timeout=ttl)
        return ack.seq

    async def swap(self, key: str, value: bytes, revision: int) -> int | None:
        """Write if the key's revision is still this one (0: there is none); the new revision, None when it moved."""
        pairs = [("Nats-Expected-Last-Subject-Sequence", str(revision))]
        try:
            ack = await self._connection.publisher.publish(PREFIX + key, value, pairs)
        except ServerError as error:
            if error.code == WRONG_LAST_SEQUENCE:
                return None
            raise
        return ack.seq

    async def get(self, key: str) -> Entry | None:
        """The key's entry, None when it is not there."""
        header, body = await self._connection.request_whole(
            f"$JS.API.DIRECT.GET.{ownstreams.BUCKET_STREAM}.{PREFIX}{key}", b""
        )
        sequence = headers.get(header or b"", b"Nats-Sequence")
        return Entry(body, int(sequence)) if sequence else None

    async def latest(self, key: str) -> Entry | None:
        """Like `get`, from the bucket's leader: a replica may not know of the last write yet."""
        try:
            answer = await self._connection.api(
                f"STREAM.MSG.GET.{ownstreams.BUCKET_STREAM}", {"last_by_subj": PREFIX + key}
            )
        except ServerError as error:
            if error.code == NO_MESSAGE:
                return None
            raise
        message = answer["message"]
        return Entry(base64.b64decode(message.get("data") or b""), message["seq"])

    async def read(self, patterns: list[str]) -> dict[str, Entry]:
        """Every key that matches (NATS wildcards; up to 1,024 keys), as the bucket has it now."""
        connection = self._connection
        found: dict[str, Entry] = {}
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def arrived(subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
            status = headers.status(header or b"")
            if status is not None:
                if not done.done():
                    if status[0] in (204, 404):
                        done.set_result(None)
                    else:
                        done.set_exception(NoStream(f"the bucket does not answer: {status[0]} {status[1]}"))
                return
            name, sequence = (
                headers.get(header or b"", b"Nats-Subject"),
                headers.get(header or b"", b"Nats-Sequence"),
            )
            if name and sequence:
                found[name.decode().removeprefix(PREFIX)] = Entry(body, int(sequence))

        inbox = connection.new_inbox()
        unsubscribe = await connection.wire.subscribe(inbox, arrived)
        try:
            request = {"multi_last": [PREFIX + pattern for pattern in patterns]}
            connection.wire.publish(
                f"$JS.API.DIRECT.GET.{ownstreams.BUCKET_STREAM}".encode(),
                msgspec.json.encode(request),
                inbox.encode(),
            )
            async with asyncio.timeout(READ_SECONDS):
                await done
        except TimeoutError:
            raise Unconfirmed("the bucket did not answer in time") from None
        finally:
            await unsubscribe()
        return found

    async def watch(self, pattern: str, changed: Callable[[str, bytes], None]) -> Unsubscribe:
        """Call `changed(key, value)` for every write from now on; what runs out by its TTL is not told."""

        def arrived(subject: bytes, _reply: bytes, _header: bytes | None, body: bytes) -> None:
            changed(subject.decode().removeprefix(PREFIX), body)

        unsubscribe: Unsubscribe = await self._connection.wire.subscribe(PREFIX + pattern, arrived)
        return unsubscribe
