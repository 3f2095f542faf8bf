"""Routes declared besides functions with `@route`: those of the settings, and those of files, which may change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from msgspec import structs

from runner import codec
from runner.bindings import Binding
from runner.config import Settings, require_served
from runner.core.http.backend import RequestBackend
from runner.core.http.precedence import shadowed
from runner.core.http.route import Route
from runner.core.subject import covers
from runner.errors import JetrunnerError
from runner.gateway import routefile
from runner.gateway.watched import EVERY_SECONDS, Watched

log = logging.getLogger("jetrunner.gateway")


class Declarations:
    """The declared routes of one process."""

    def __init__(
        self, settings: Settings, functions: Sequence[Binding], *, every: float = EVERY_SECONDS
    ) -> None:
        """The files are checked every `every` seconds."""
        self._settings = settings
        self._services = routefile.services(functions)
        self._answering = [each for each in functions if each.answers is not None]
        self._paths = tuple(map(Path, settings.route_files))
        self._every = every
        self._watched = Watched(lambda: self._paths)  # before the first reading: no change is missed
        self._said: set[str] = set()

    def routes(self) -> Sequence[Route]:
        """Read all declared routes. Raises RouteFileError and SettingsError; each part that cannot be honoured is logged once."""
        return self._took(self._read())

    def remarks(self) -> Sequence[str]:
        """A remark on each part of the files that cannot be honoured. Raises RouteFileError."""
        found = self._read()
        return (*found.remarks, *shadowed((*self._settings.routes, *found.routes)))

    async def changes(self) -> AsyncIterator[Sequence[Route]]:
        """Give all declared routes each time a file has changed. If a file is wrong, an error is logged instead."""
        if not self._paths:
            return
        async for _ in self._watched.changes(self._every):
            try:
                found = await asyncio.to_thread(self._read)
            except JetrunnerError as error:
                log.error("routes stay as they were: %s", error)
                continue
            yield self._took(found)

    def _read(self) -> routefile.DeclaredRoutes:
        found = routefile.read(self._paths, self._services)
        for route in found.routes:
            require_served(self._settings, route.name, route.options)
        return found

    def _took(self, found: routefile.DeclaredRoutes) -> Sequence[Route]:
        routes = tuple(self._typed(route) for route in (*self._settings.routes, *found.routes))
        remarks = (*found.remarks, *shadowed(routes))
        for remark in remarks:
            if remark not in self._said:
                log.warning("%s", remark)
        self._said = set(remarks)
        return routes

    def _typed(self, route: Route) -> Route:
        """The route; a backend whose functions in this project read JSON bodies is marked as typed."""
        backends = tuple(
            structs.replace(each, backend=structs.replace(each.backend, typed=True))
            if isinstance(each.backend, RequestBackend) and self._reads_json(each.backend)
            else each
            for each in route.backends
        )
        return structs.replace(route, backends=backends)

    def _reads_json(self, backend: RequestBackend) -> bool:
        subject = backend.subject.wildcard
        reading = [each for each in self._answering if covers(each.subject.wildcard, subject)]
        bodies = [each.signature.body for each in reading]
        return bool(bodies) and all(body is not None and not codec.is_raw(body.annotation) for body in bodies)
