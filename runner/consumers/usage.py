"""Whether an instance reads a durable now, by the server's own figures: one that is slow to answer may live all the same.

Rule 1: a pull request that waits is a reader's: the server forgets those whose client has gone.
Rule 2: a durable that delivers, or hears acks, while it is looked at has a reader.

Not known is a reader that asks for nothing and acknowledges nothing meanwhile: all its slots are taken by long work.
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
"""A durable is looked at for so long."""
PAUSE_SECONDS = 0.25
SILENT = "that does not answer"
"""Stands for the name of a reader of which the server alone tells."""


async def in_use(
    connection: Connection,
    stream: str,
    durable: str,
    info: Mapping[str, Any] | None = None,
    *,
    ours: int = 0,
) -> bool:
    """Whether somebody reads a durable now, besides the `ours` pull requests of this process. Raises JetrunnerError.

    With `info`, as it was a moment ago, movement since then counts, too. It takes a second where nothing moves.
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

    `SILENT` where a durable has a reader and no instance says that it is.
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
