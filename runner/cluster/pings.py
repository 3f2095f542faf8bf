"""Pings: they show whether our server still serves this connection.

A ping is a message to our own inbox. It comes back only if the server still had the connection when the ping arrived. So an
answered ping was sent before the server closed the connection, even if bytes have waited in sockets and buffers since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from runner.errors import ServerError
from runner.jetstream.connection import Connection

PING_SECONDS = 0.01
"""Seconds from one ping to the next, while there is ordered work."""
AT_ONCE_SECONDS = 0.002
"""A ping that is asked for is sent at once, unless the last one is younger than this."""
BUSY_SECONDS = 1.0
"""Pings go on for so long after the last work."""
TIMEOUT_SECONDS = 2.0
WEIGHT = 1 / 16
"""Weight of the newest answer in the mean round trip."""


class Pings:
    """Sends pings at intervals while there is work; `answered(sent, epoch)` is called with the moment an answered ping was sent."""

    def __init__(self, connection: Connection, answered: Callable[[float, int], None]) -> None:
        self.worked = 0.0
        """When there was last ordered work here, or a message last asked whether it may start."""
        self.waiting = 0
        """How many callers wait for an answer: pings go on as long as any waits, even in an outage."""
        self.round_trip = 0.0
        """Mean seconds from sending to the answer; 0.0 before the first one."""
        self._connection = connection
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._sent = 0.0
        self._beating = False

    def ask(self) -> None:
        """Send a ping now, and further ones while there is work."""
        self._send(AT_ONCE_SECONDS)
        if not self._beating:
            self._beating = True
            self._loop.call_later(PING_SECONDS, self._beat)

    async def measure(self, count: int = 3) -> None:
        """Return once so many pings were answered or have timed out; each answer sets `round_trip`."""
        for _ in range(count):
            before, self._sent = self.round_trip, 0.0
            self._send(0.0)
            until = time.monotonic() + TIMEOUT_SECONDS
            while self.round_trip == before and time.monotonic() < until and self._connection.is_connected:
                await asyncio.sleep(0.0005)

    def _beat(self) -> None:
        if not self.waiting and time.monotonic() - self.worked > BUSY_SECONDS:
            self._beating = False
            return
        self._send(0.0)
        self._loop.call_later(PING_SECONDS, self._beat)

    def _send(self, spacing: float) -> None:
        now = time.monotonic()
        if now - self._sent >= spacing and self._connection.is_connected:
            self._sent = now
            wire = self._connection.wire
            mine = self._connection.inbox.expect(self._heard, (now, wire.epoch), b"a ping", TIMEOUT_SECONDS)
            wire.publish(mine, b"", b"")

    def _heard(self, ping: Any, _header: bytes | None, _body: bytes, error: ServerError | None) -> None:
        if error is None:
            sent, epoch = ping
            took = time.monotonic() - sent
            self.round_trip = (
                took if not self.round_trip else self.round_trip + WEIGHT * (took - self.round_trip)
            )
            self._answered(sent, epoch)
