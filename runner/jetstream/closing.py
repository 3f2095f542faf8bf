"""Closes a nats-py client, whatever the server does."""

from __future__ import annotations

import asyncio
import logging

from nats.aio.client import Client
from nats.errors import Error

from runner.jetstream.reader import abort

log = logging.getLogger("jetrunner.connection")


async def close(client: Client) -> None:
    """Flush and close within 2 s, whatever the server does."""
    try:
        async with asyncio.timeout(1):
            if client.is_connected:
                await client.flush()
    except Exception as error:  # noqa: BLE001  # the peer is gone or frozen: nothing left to do for it
        log.debug("flush before closing failed: %r", error)
    await _close_once(client)
    await _end(client)


async def _end(client: Client, tries: int = 20) -> None:
    """Cancel the tasks of a closed client until they have ended.

    Python 3.11's `wait_for` drops a cancellation if its wait ends at the same moment: nats-py would then reconnect for ever.
    """
    names = ("_reconnection_task", "_reading_task", "_flusher_task", "_ping_interval_task")
    for _ in range(tries):
        tasks = [
            each for name in names if (each := getattr(client, name, None)) is not None and not each.done()
        ]
        if not tasks and client.is_closed:
            return
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=0.05)
        elif not client.is_closed:
            abort(client)  # it has reconnected meanwhile: close the new connection, too
            await _close_once(client)


async def _close_once(client: Client) -> None:
    try:
        async with asyncio.timeout(1):
            await client.close()
    except (TimeoutError, OSError, Error) as error:  # the server takes nothing, or the socket is closed
        log.debug("closing failed: %r", error)
        abort(client)
