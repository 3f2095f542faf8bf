"""A server as it was before a test."""

from __future__ import annotations

import asyncio
import threading

from runner.config import Settings
from runner.jetstream.connection import connect
from runner.jetstream.inventory import real_streams


def clear(url: str) -> None:
    """Delete all streams; blocks for some milliseconds. A stream that is only emptied would go on to know Msg-Ids."""

    async def delete() -> None:
        async with connect(Settings(nats_url=url)) as connection:
            for name in await real_streams(connection):
                await connection.api(f"STREAM.DELETE.{name}")

    # In a thread: the test's own loop may stand in this one.
    thread = threading.Thread(target=lambda: asyncio.run(delete()))
    thread.start()
    thread.join()
