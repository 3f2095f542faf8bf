"""The listener: uvicorn's server without its own process, signals and shutdown. The caller binds the socket and ends the listener."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from uvicorn.config import Config

from runner.gateway.acceptor import Acceptor
from runner.gateway.guard import Guard
from runner.gateway.head import Refused
from runner.gateway.limits import Limits

TICK_SECONDS = 0.5
QUIET_SECONDS = 1.0
"""At the end, idle connections are kept for so long: a client may have just sent its next request."""
LOOK_SECONDS = 0.02

clock = time.monotonic


class Listener:
    """The listener of one process."""

    def __init__(
        self, app: Callable[..., Any], limits: Limits, refused: Callable[[Guard, Refused], None]
    ) -> None:
        """`app` is called for each request, as ASGI defines it; `refused` is called when the guard refuses a client."""
        self._draining = False
        protocol = type(
            "Guarded",
            (Guard,),
            {
                "limits": limits,
                "draining": staticmethod(lambda: self._draining),
                "refused": staticmethod(refused),
            },
        )
        config = Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(limits.idle_seconds),
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._server = uvicorn.Server(config)
        self._protocol = partial(
            protocol, config=config, server_state=self._server.server_state, app_state={}
        )
        self._acceptor: Acceptor | None = None
        self._ticking: asyncio.Task[None] | None = None

    @property
    def connections(self) -> list[Guard]:
        """The open connections."""
        return list(self._server.server_state.connections)  # type: ignore[arg-type]  # it makes no others

    async def open(self, listening: socket.socket) -> None:
        """Take connections from now on."""
        server = self._server
        server.config.load()
        await server.on_tick(0)
        self._acceptor = Acceptor(listening, self._protocol)
        self._acceptor.open()
        self._ticking = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self._server.on_tick(0)  # the Date header
            now = clock()
            for each in self.connections:
                each.sweep(now)

    async def leave(self) -> None:
        """Take no more connections; returns once all requests are answered. Clients are told to close connections that they keep open."""
        self._draining = True
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            await acceptor.close()
        quiet = clock() + QUIET_SECONDS
        for each in self.connections:
            each.end_soon()
        while self.connections:
            now = clock()
            if now >= quiet:
                for each in self.connections:
                    each.close_idle()
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Cut off the connections that are left."""
        for each in self.connections:
            each.transport.abort()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait({self._ticking})
