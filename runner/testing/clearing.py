"""Clears a server after a test."""

from __future__ import annotations

import asyncio
import threading

from runner.config import Settings
from runner.jetstream.connection import connect
from runner.jetstream.inventory import real_streams


def clear(url: str) -> None:
    """Delete all streams; blocks for some milliseconds. To purge them would not do: a purged stream still knows Msg-Ids."""

    async def delete() -> None:
        async with connect(Settings(nats_url=url)) as connection:
            for name in await real_streams(connection):
                await connection.api(f"STREAM.DELETE.{name}")

    # In a thread of its own: the test's event loop may run in this one.
    thread = threading.Thread(target=lambda: asyncio.run(delete()))
    thread.start()
    thread.join()
