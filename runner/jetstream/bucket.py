"""The bucket: small facts that outlive a process, one a key, in the stream of a NATS key-value bucket."""

from __future__ import annotations

from runner.core import header as headers
from runner.errors import NoStream, ServerError
from runner.jetstream import ownstreams
from runner.jetstream.connection import Connection
from runner.jetstream.publisher import insist

PREFIX = f"$KV.{ownstreams.BUCKET}."


class Bucket:
    """Reads and confirmed writes; every call repeats for `patience` seconds what may pass."""

    def __init__(self, connection: Connection, patience: float = 30.0) -> None:
        self._connection = connection
        self._patience = patience

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
        if block is not None and headers.status(block) is not None:
            return None
        return body

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
            if error.code != 10059:  # the stream is gone, and the key with it
                raise
