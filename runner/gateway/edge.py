"""The edge of one process: its functions with `@route`, its table of routes, its listener."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence

import anyio
from msgspec import structs

from runner.bindings import Binding
from runner.config import require_served
from runner.core.http.backend import FunctionBackend
from runner.core.http.guesses import Guesses
from runner.core.http.proxies import Proxies
from runner.core.http.route import Exact, Options, Pattern, Route, Weighted
from runner.core.http.routetable import RouteTable
from runner.gateway.access import AccessLine, AccessLog
from runner.gateway.app import GatewayApp
from runner.gateway.auth import Authentications
from runner.gateway.callers import Callers
from runner.gateway.forward import Forward
from runner.gateway.guard import Guard
from runner.gateway.head import Refused
from runner.gateway.httpchannel import HttpChannel
from runner.gateway.httpcounts import REFUSED, HttpCounts
from runner.gateway.limits import Limits
from runner.gateway.listener import Listener
from runner.gateway.streams import Streams
from runner.runtime.runtime import Runtime
from runner.services.responder import Responder

log = logging.getLogger("jetrunner.gateway")


class Edge:
    """Serves HTTP; made with its functions, and opened once they may run."""

    def __init__(
        self,
        runtime: Runtime,
        bindings: Sequence[Binding],
        routes: Sequence[Route],
        *,
        access: Callable[[bytes], None] | None,
    ) -> None:
        """`bindings` are the functions with `@route` that run here, `routes` the other declared routes; `access` writes the access log.

        Raises SettingsError if a secret of an authentication is missing.
        """
        settings, channels = runtime.settings, [HttpChannel(runtime, each) for each in bindings]
        self.responders = tuple(Responder(runtime, each) for each in channels)
        self.counts = HttpCounts()
        self._access = AccessLog(access)
        self._auth = Authentications(settings.auth)
        self._app = GatewayApp(
            {each.binding.function: each for each in channels},
            (Forward(runtime.requester), Streams(runtime.connection.publisher)),
            Callers(self._auth, Proxies(settings.http_trusted_proxies), Guesses(settings.http_auth_failures)),
            runtime.tracing.http_spans(),
            self._access,
            self.counts,
        )
        self._own = [route_of(each) for each in bindings]
        for each in self._own:
            require_served(settings, each.name, each.options)
        self._cors = settings.cors
        self.take(routes)
        limits = Limits(body_bytes=settings.http_body_limit)
        self._listener = Listener(self._app, limits, self._refused)
        self.address = ("", 0)
        """Host and port, set once it listens."""

    def take(self, routes: Sequence[Route]) -> None:
        """Use other declared routes from the next request on. Raises ValueError if one is not valid; then nothing changes."""
        table = RouteTable(map(self._shared, (*self._own, *routes)), luck=random.random)
        # The counts of the previous table's routes are kept, since requests to them may be on their way.
        self.counts.keep(each.name for each in (*self._app.table.routes, *table.routes))
        for each in table.routes:
            self.counts.begin(each.name)
        self._app.table = table

    def _shared(self, route: Route) -> Route:
        """The route, with the CORS settings of the project if it has none of its own."""
        if self._cors is None or route.options.cors is not None:
            return route
        return structs.replace(route, options=structs.replace(route.options, cors=self._cors))

    def _refused(self, guard: Guard, why: Refused) -> None:
        """Count and log a client that the guard refuses, since it makes no request that would be counted."""
        self.counts.refused(why.status)
        if self._access.enabled:
            method, host, path = guard.asked
            self._access.note(
                AccessLine(
                    method=method, host=host, path=path, route=REFUSED, status=why.status, bytes=0, seconds=0.0,
                    client=guard.client[0] if guard.client else "", request_id="", why=why.detail,
                )
            )  # fmt: skip

    async def open(self, listening: socket.socket) -> None:
        """Take requests from now on."""
        host, port, *_ = listening.getsockname()
        self.address = host, port
        await self._listener.open(listening)
        log.info("HTTP at http://%s:%d: %d routes", host, port, len(self._app.table.routes))

    async def follow(self, changes: AsyncIterator[Sequence[Route]]) -> None:
        """Take over changed routes and secrets, for ever. If one is wrong, the log says so, and the previous ones stay."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._auth.follow)
            async for routes in changes:
                self.take(routes)
                log.info("routes were read again: %d routes", len(routes))

    def sweep(self, now: float) -> None:
        """Sweep the responders, collect counts and write the access log; called about ten times a second."""
        for each in self.responders:
            each.sweep(now)
        self.counts.collect()
        self._access.flush()

    @property
    def unsettled(self) -> int:
        """Requests that are not answered."""
        return self.counts.in_flight

    async def leave(self) -> None:
        """Take no more connections; returns once all requests are answered."""
        self._app.stop_events()
        await self._listener.leave()

    def give_up(self) -> None:
        """Refuse all requests whose handlers have not begun."""
        for each in self.responders:
            each.waiting.give_up()

    async def close(self) -> None:
        """Close all connections, and write the rest of the access log."""
        await self._listener.close()
        self._access.flush()
        await asyncio.sleep(0)


def route_of(binding: Binding) -> Route:
    """The route to a function with `@route`."""
    asked = binding.route
    assert asked is not None
    path = Pattern(asked.path) if asked.names else Exact(asked.path)
    return Route(
        name=f"function {binding.function}",
        hosts=(asked.host,) if asked.host is not None else (),
        path=path,
        methods=(asked.method,),
        backends=(Weighted(FunctionBackend(binding.function)),),
        options=Options(auth=asked.auth, idempotency="optional"),
    )
