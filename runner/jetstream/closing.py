"""The end of a nats-py client, whatever its peer does."""

from __future__ import annotations

import asyncio
import logging

from nats.aio.client import Client
from nats.errors import Error

from runner.jetstream.reader import abort

log = logging.getLogger("jetrunner.connection")


async def close(client: Client) -> None:
    """Flush and close within two seconds, whatever the peer does."""
    try:
        async with asyncio.timeout(1):
            if client.is_connected:
                await client.flush()
    except Exception as error:  # noqa: BLE001  # the peer is gone or frozen: nothing left to do for it
        log.debug("flush before closing failed: %r", error)
    await _close_once(client)
    await _end(client)


async def _end(client: Client, tries: int = 20) -> None:
    """Cancel what a closed client still does until it has ended.

    Python 3.11's `wait_for` drops a cancel in whose moment the wait has ended: nats-py would connect again for ever.
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
            abort(client)  # it had come up again: closing it has to begin with what stands now
            await _close_once(client)


async def _close_once(client: Client) -> None:
    try:
        async with asyncio.timeout(1):
            await client.close()
    except (TimeoutError, OSError, Error) as error:  # the peer takes nothing, or the socket is closed
        log.debug("closing failed: %r", error)
        abort(client)
