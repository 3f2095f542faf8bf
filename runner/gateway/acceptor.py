"""The acceptor: it takes new connections of clients, many in one turn of the event loop.

uvloop's own server takes one connection in a turn. A turn in which hundreds of requests are answered is long. So of 1,000 clients
that connected at once, the last waited 3.6 s for its first answer (measured).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

IN_ONE_TURN = 100
"""Most connections taken in one turn. Each costs about 0.1 ms, so more would delay requests on open connections."""
PAUSE_SECONDS = 0.5
"""Pause after the system has refused a connection, as it does if a process has too many open files."""

log = logging.getLogger("jetrunner.gateway")


class Acceptor:
    """Takes the connections of one listening socket, and closes that socket in the end."""

    def __init__(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        """`protocol` makes the protocol of each connection."""
        self._listening = listening
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._told = False

    def open(self) -> None:
        """Take connections from now on."""
        self._paused = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(IN_ONE_TURN):
            try:
                client, _ = self._listening.accept()
            except (BlockingIOError, ConnectionError):  # no more connections wait, or one went away
                return
            except OSError as error:
                if not self._told:
                    self._told = True
                    log.warning("HTTP takes no new connections for now: %s", error)
                self._loop.remove_reader(self._listening)
                self._paused = self._loop.call_later(PAUSE_SECONDS, self.open)
                return
            self._told = False
            client.setblocking(False)
            opening = self._loop.create_task(self._opened(client))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _opened(self, client: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, client)
        except OSError:  # the client has gone already
            client.close()

    async def close(self) -> None:
        """Take the connections that already wait, and no more; returns once they are handed to the protocol."""
        if self._paused is None:
            self._accept()
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        if self._opening:
            await asyncio.wait(self._opening)
