"""Notices that this process stood still for so long that what was delivered to it meanwhile may be another's by now."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from nats.aio.client import Client

log = logging.getLogger("jetrunner.wire")

STALLED_SECONDS = 9.5
"""The server takes a message back after 10 s of silence."""
TICK_SECONDS = 1.0
MOST_TICKS = 5


class Stall:
    """Of one client: its connection is ended by `abort`, and all that is read until `begin` counts no more."""

    def __init__(self, client: Client, abort: Callable[[Client], None]) -> None:
        self.ticked = time.monotonic()
        """When the loop last went on; before all time while what is read counts no more."""
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
            if self._ticks > MOST_TICKS:  # it did not end: better late than deaf
                self.ticked = now
        if not self._client.is_closed:
            self._loop.call_later(TICK_SECONDS, self._tick)

    def notice(self, now: float) -> None:
        """Told by the read or the tick that comes first, once the process goes on."""
        if self.ticked > -math.inf:
            self._ticks = 0
            log.warning("this process stood still for %.1f s: another connection is made", now - self.ticked)
            self.ticked = -math.inf
            self._abort(self._client)

    def begin(self) -> None:
        """The connection is another one."""
        self.ticked = time.monotonic()
