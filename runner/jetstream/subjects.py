"""The subjects that a stream holds messages of, as its leader has them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from runner.errors import ServerError
from runner.jetstream import codes
from runner.jetstream.connection import Connection


async def subjects(connection: Connection, stream: str, pattern: str) -> AsyncIterator[tuple[str, int]]:
    """Every subject that matches, and how many messages it has; none without the stream."""
    offset = 0
    while True:
        ask = {"subjects_filter": pattern, "offset": offset}
        try:
            info = await connection.api(f"STREAM.INFO.{stream}", ask)
        except ServerError as error:
            if error.code in codes.NOTHING_STORED:
                return
            raise
        page = info["state"].get("subjects") or {}
        for subject, count in page.items():
            yield subject, count
        offset += len(page)
        if not page or offset >= info.get("total", 0):
            return
