"""The bucket: small facts that outlive a process, one a key, in the stream of a NATS key-value bucket."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from runner.core import header as headers
from runner.errors import NoStream, PermissionDenied, ServerError
from runner.jetstream import codes, ownstreams
from runner.jetstream.connection import Connection
from runner.jetstream.messages import leader_message, purge
from runner.jetstream.publisher import insist

PREFIX = f"$KV.{ownstreams.BUCKET}."
PATIENCE_SECONDS = 30.0


class Value(NamedTuple):
    """A key's value, and the revision that a compare-and-set must name; revision 0: there is none."""

    value: bytes
    revision: int


NOTHING = Value(b"", 0)


class Bucket:
    """Reads and confirmed writes; every call repeats for `patience` seconds (30 if None) what may pass."""

    def __init__(self, connection: Connection, patience: float | None = None) -> None:
        self._connection = connection
        self._patience = PATIENCE_SECONDS if patience is None else patience
        self._may_ask_leader = True

    async def _direct(self, key: str) -> tuple[bytes | None, bytes]:
        async def once() -> tuple[bytes | None, bytes]:
            try:
                return await self._connection.request_whole(
                    f"$JS.API.DIRECT.GET.{ownstreams.BUCKET_STREAM}.{PREFIX}{key}", b""
                )
            except NoStream:
                await ownstreams.ensure(self._connection, ownstreams.BUCKET_STREAM)
                raise

        return await insist(once, self._patience)

    async def latest(self, key: str) -> Value:
        """The value with its revision, from the bucket's leader: a replica may still show what was written or removed just now.

        Where the credentials do not allow to ask the leader, any replica is asked.
        """

        async def once() -> Value:
            try:
                found = await leader_message(
                    self._connection, ownstreams.BUCKET_STREAM, {"last_by_subj": PREFIX + key}
                )
            except ServerError as error:
                if error.code != codes.STREAM_NOT_FOUND:
                    raise
                await ownstreams.ensure(self._connection, ownstreams.BUCKET_STREAM)
                return NOTHING
            return Value(found.body, found.sequence) if found is not None else NOTHING

        if self._may_ask_leader:
            try:
                return await insist(once, self._patience)
            except PermissionDenied:
                self._may_ask_leader = False
        block, body = await self._direct(key)
        sequence = headers.last(block or b"", b"Nats-Sequence")
        return Value(body, int(sequence)) if sequence else NOTHING

    async def swap(self, key: str, value: bytes, revision: int) -> int | None:
        """Store a value if the key's revision is still this one; the new revision, None when it moved.

        None also when an earlier try was stored without our hearing of it.
        """
        pairs = [("Nats-Expected-Last-Subject-Sequence", str(revision))]

        async def once() -> int | None:
            try:
                return (await self._connection.publisher.publish(PREFIX + key, value, pairs)).seq
            except NoStream:
                await ownstreams.ensure(self._connection, ownstreams.BUCKET_STREAM)
                raise
            except ServerError as error:
                if error.code == codes.WRONG_LAST_SEQUENCE:
                    return None
                raise

        return await insist(once, self._patience)

    async def put(self, key: str, value: bytes) -> int:
        """Store a value; it is confirmed when this returns its sequence."""

        async def once() -> int:
            try:
                return (await self._connection.publisher.publish(PREFIX + key, value)).seq
            except NoStream:
                await ownstreams.ensure(self._connection, ownstreams.BUCKET_STREAM)
                raise

        return await insist(once, self._patience)

    async def drop(self, key: str, revision: int | None = None) -> bool:
        """Remove a key and leave no marker behind; with a revision, only if it has moved no further. Whether it was there."""
        once = partial(purge, self._connection, ownstreams.BUCKET_STREAM, PREFIX + key, revision)
        return await insist(once, self._patience) > 0
