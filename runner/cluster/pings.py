"""Pings: whether our server still serves this connection, asked through the server itself.

A ping is a message to our own inbox. It comes back only if the server had the connection when the ping arrived. So one
that is answered was sent before the server closed the connection, whatever stands in sockets and buffers since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from runner.errors import ServerError
from runner.jetstream.connection import Connection

PING_SECONDS = 0.01
"""From one ping to the next, while there is ordered work."""
AT_ONCE_SECONDS = 0.002
"""A ping that was asked for goes out at once, unless the last one is younger than this."""
BUSY_SECONDS = 1.0
"""Pings go on for so long after the last work."""
TIMEOUT_SECONDS = 2.0
WEIGHT = 1 / 16
"""Of the newest answer in the mean round trip."""


class Pings:
    """Pings on the clock while there is work; `answered(sent, epoch)` is called with the moment a ping was sent."""

    def __init__(self, connection: Connection, answered: Callable[[float, int], None]) -> None:
        self.worked = 0.0
        """When there was last ordered work here, or it was asked whether some may start."""
        self.waiting = 0
        """How many wait for an answer: pings go on for as long as they do, through outages, too."""
        self.round_trip = 0.0
        """Mean seconds from sending to the answer; 0.0 before the first one."""
        self._connection = connection
        self._answered = answered
        self._loop = asyncio.get_running_loop()
        self._sent = 0.0
        self._beating = False

    def ask(self) -> None:
        """Ping now, and go on while there is work."""
        self._send(AT_ONCE_SECONDS)
        if not self._beating:
            self._beating = True
            self._loop.call_later(PING_SECONDS, self._beat)

    async def measure(self, count: int = 3) -> None:
        """Return once so many pings were answered, or their time is over: `round_trip` is known then."""
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
