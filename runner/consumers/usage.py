"""Whether an instance reads a durable now, by the server's own figures: an instance that is slow to answer may still live.

Rule 1: a waiting pull request belongs to a reader: the server forgets requests whose client has gone.
Rule 2: a durable that delivers messages or receives acks while it is watched has a reader.

A reader cannot be recognised if it neither asks nor acknowledges meanwhile, because long work takes all its slots.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

from runner.jetstream import consumer
from runner.jetstream.concurrent import gather
from runner.jetstream.connection import Connection
from runner.runtime.snapshots import living

LOOK_SECONDS = 1.0
"""How long a durable is watched."""
PAUSE_SECONDS = 0.25
SILENT = "that does not answer"
"""Stands for the name of a reader that only the server knows of."""


async def in_use(
    connection: Connection,
    stream: str,
    durable: str,
    info: Mapping[str, Any] | None = None,
    *,
    ours: int = 0,
) -> bool:
    """Whether somebody reads a durable now, besides the `ours` pull requests of this process. Raises JetrunnerError.

    With `info` from a moment ago, movement since then counts, too. It takes 1 s if nothing moves.
    """
    before, until = info, time.monotonic() + LOOK_SECONDS
    while True:
        now = await consumer.info(connection, stream, durable)
        if now is None:
            return False
        if now["num_waiting"] > ours or (before is not None and _place(now) != _place(before)):
            return True
        if time.monotonic() >= until:
            return False
        before = now
        await asyncio.sleep(PAUSE_SECONDS)


async def reader_of(
    connection: Connection, project: str, function: str, stream: str, durables: Iterable[str], *, me: str
) -> str:
    """An instance other than `me` that reads one of these durables without order; empty: none. Raises JetrunnerError.

    It is `SILENT` if a durable has a reader, but no instance says that it reads the durable.
    """
    names = tuple(durables)
    if not names:
        return ""
    found, used = await gather(
        living(connection, project, function, stream, me=me),
        gather(*(in_use(connection, stream, name) for name in names)),
    )
    for instance, part in found:
        if part["durable"] in names and not part.get("ordered"):
            return str(instance)
    return SILENT if any(used) else ""


def _place(info: Mapping[str, Any]) -> tuple[int, int, int]:
    delivered, acked = info["delivered"], info["ack_floor"]
    return delivered["consumer_seq"], acked["consumer_seq"], info["num_ack_pending"]
