"""The bucket: small facts that outlive a process, one a key, in the stream of a NATS key-value bucket."""

from __future__ import annotations

import base64

from runner.core import header as headers
from runner.errors import NoStream, PermissionDenied, ServerError
from runner.jetstream import ownstreams
from runner.jetstream.connection import Connection
from runner.jetstream.publisher import insist

PREFIX = f"$KV.{ownstreams.BUCKET}."
NO_MESSAGE = 10037
NO_SUCH_STREAM = 10059
PATIENCE_SECONDS = 30.0


class Bucket:
    """Reads and confirmed writes; every call repeats for `patience` seconds (30 if None) what may pass."""

    def __init__(self, connection: Connection, patience: float | None = None) -> None:
        self._connection = connection
        self._patience = PATIENCE_SECONDS if patience is None else patience
        self._may_ask_leader = True

    async def get(self, key: str) -> bytes | None:
        """The value, None when there is none."""

        async def once() -> tuple[bytes | None, bytes]:
            try:
                return await self._connection.request_whole(
                    f"$JS.API.DIRECT.GET.{ownstreams.BUCKET_STREAM}.{PREFIX}{key}", b""
                )
            except NoStream:
                await ownstreams.ensure(self._connection, ownstreams.BUCKET_STREAM)
                raise

        block, body = await insist(once, self._patience)
        if block is not None and headers.last(block, b"Nats-Sequence") is None:
            return None  # a status
        return body

    async def latest(self, key: str) -> bytes | None:
        """Like `get`, from the bucket's leader: a replica may still show what was written or removed just now.

        Where the credentials do not allow to ask the leader, any replica is asked.
        """

        async def once() -> bytes | None:
            try:
                answer = await self._connection.api(
                    f"STREAM.MSG.GET.{ownstreams.BUCKET_STREAM}", {"last_by_subj": PREFIX + key}
                )
            except ServerError as error:
                if error.code == NO_MESSAGE:
                    return None
                if error.code == NO_SUCH_STREAM:
                    await ownstreams.ensure(self._connection, ownstreams.BUCKET_STREAM)
                    return None
                raise
            return base64.b64decode(answer["message"].get("data") or b"")

        if self._may_ask_leader:
            try:
                return await insist(once, self._patience)
            except PermissionDenied:
                self._may_ask_leader = False
        return await self.get(key)

    async def put(self, key: str, value: bytes) -> None:
        """Store a value; it is confirmed when this returns."""

        async def once() -> object:
            try:
                return await self._connection.publisher.publish(PREFIX + key, value)
            except NoStream:
                await ownstreams.ensure(self._connection, ownstreams.BUCKET_STREAM)
                raise

        await insist(once, self._patience)

    async def drop(self, key: str) -> None:
        """Remove a key and leave no marker behind."""
        purge = f"STREAM.PURGE.{ownstreams.BUCKET_STREAM}"

        async def once() -> object:
            return await self._connection.api(purge, {"filter": PREFIX + key})

        try:
            await insist(once, self._patience)
        except ServerError as error:
            if error.code != NO_SUCH_STREAM:  # the stream is gone, and the key with it
                raise
