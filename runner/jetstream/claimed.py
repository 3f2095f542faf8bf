"""The owner of a shard, for commands that only read."""

from __future__ import annotations

from runner.core.claim import decode
from runner.jetstream import tolerant
from runner.jetstream.connection import Connection
from runner.jetstream.kv import KV


async def owner(connection: Connection, project: str, shard: str) -> str:
    """The instance that owns a shard, `<function>.<generation>.<number>`; empty if none does. Raises ServerError."""
    key = f"claim.{project}.{shard}"
    value, revision = await KV(connection).leader(key)
    claim = tolerant.read(decode, value, key) if revision else None
    return claim.owner if claim is not None else ""
