"""Notices if this process has stood still for so long that other instances may have its messages by now."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from nats.aio.client import Client

log = logging.getLogger("jetrunner.wire")

STALLED_SECONDS = 9.5
"""After so long other instances may have the messages: the server takes them back after 10 s of silence."""
TICK_SECONDS = 1.0
MOST_TICKS = 5


class Stall:
    """Watches one client: after a stall `abort` ends its connection, and data that is read until `begin` does not count."""

    def __init__(self, client: Client, abort: Callable[[Client], None]) -> None:
        self.ticked = time.monotonic()
        """When the loop last went on; minus infinity while read data does not count."""
        self._client = client
        self._abort = abort
        self._ticks = 0
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        if not self._client.is_connected or now - self.ticked <= STALLED_SECONDS:
            self.ticked = now
        else:
            self.notice(now)
            self._ticks += 1
            if self._ticks > MOST_TICKS:  # it did not end: late data is better than none
                self.ticked = now
        if not self._client.is_closed:
            self._loop.call_later(TICK_SECONDS, self._tick)

    def notice(self, now: float) -> None:
        """End the connection; called by the first read or tick after the stall."""
        if self.ticked > -math.inf:
            self._ticks = 0
            log.warning("this process stood still for %.1f s: it connects again", now - self.ticked)
            self.ticked = -math.inf
            self._abort(self._client)

    def begin(self) -> None:
        """Start to watch a new connection."""
        self.ticked = time.monotonic()
