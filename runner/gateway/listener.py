"""The listener: uvicorn's server without its own process, signals and end. Who calls it binds the socket, and says when it ends."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.config import Config

from runner.gateway.guard import Guard
from runner.gateway.head import Refused
from runner.gateway.limits import Limits
from runner.gateway.sockets import BACKLOG

TICK_SECONDS = 0.5
QUIET_SECONDS = 1.0
"""Connections on which nothing is asked are kept so long at the end: a client may have just sent its next request."""
LOOK_SECONDS = 0.02

clock = time.monotonic


class Listener:
    """Of one process."""

    def __init__(
        self, app: Callable[..., Any], limits: Limits, refused: Callable[[Guard, Refused], None]
    ) -> None:
        """`app` is asked for each request, as ASGI has it; `refused` is told what the guard refuses, and why."""
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
            backlog=BACKLOG,
            timeout_keep_alive=int(limits.idle_seconds),
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._server = uvicorn.Server(config)
        self._ticking: asyncio.Task[None] | None = None

    @property
    def connections(self) -> list[Guard]:
        """Those that are open."""
        return list(self._server.server_state.connections)  # type: ignore[arg-type]  # it makes no others

    async def open(self, listening: socket.socket) -> None:
        """Take connections from now on."""
        server = self._server
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.on_tick(0)
        await server.startup(sockets=[listening])
        self._ticking = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self._server.on_tick(0)  # the Date header
            now = clock()
            for each in self.connections:
                each.sweep(now)

    async def leave(self) -> None:
        """Take no more connections, and return once all requests are answered; clients are told to close what they keep open."""
        self._draining = True
        for server in self._server.servers:
            server.close()
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
        """Nothing is answered any more."""
        for each in self.connections:
            each.transport.abort()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait({self._ticking})
