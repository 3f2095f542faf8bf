"""Routes that are declared beside functions with `@route`: those of the settings, and those of files, which may change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from runner.bindings import Binding
from runner.config import Settings, require_served
from runner.core.http.backend import Call, Publish
from runner.core.http.route import Route
from runner.errors import JetrunnerError
from runner.gateway import routefile
from runner.gateway.watched import EVERY_SECONDS, Watched

log = logging.getLogger("jetrunner.gateway")


class Declarations:
    """Of one process."""

    def __init__(
        self, settings: Settings, functions: Sequence[Binding], *, every: float = EVERY_SECONDS
    ) -> None:
        """`every` so many seconds the files are looked at."""
        self._settings = settings
        self._services = routefile.services(functions)
        self._paths = tuple(map(Path, settings.route_files))
        self._every = every
        self._watched = Watched(lambda: self._paths)  # from before the first reading: no change is lost
        self._said: set[str] = set()

    def routes(self) -> Sequence[Route]:
        """Read all of them. Raises RouteFileError and SettingsError; what cannot be honoured is told once."""
        return self._took(self._read())

    def remarks(self) -> Sequence[str]:
        """What of the files cannot be honoured. Raises RouteFileError."""
        found = self._read()
        return (*found.remarks, *_idle_timeouts((*self._settings.routes, *found.routes)))

    async def changes(self) -> AsyncIterator[Sequence[Route]]:
        """All of them, each time a file has changed. Where one is wrong that is told, and nothing comes."""
        if not self._paths:
            return
        async for _ in self._watched.changes(self._every):
            try:
                found = await asyncio.to_thread(self._read)
            except JetrunnerError as error:
                log.error("routes stay as they were: %s", error)
                continue
            yield self._took(found)

    def _read(self) -> routefile.Declared:
        found = routefile.read(self._paths, self._services)
        for route in found.routes:
            require_served(self._settings, route.name, route.options)
        return found

    def _took(self, found: routefile.Declared) -> Sequence[Route]:
        routes = (*self._settings.routes, *found.routes)
        remarks = (*found.remarks, *_idle_timeouts(routes))
        for remark in remarks:
            if remark not in self._said:
                log.warning("%s", remark)
        self._said = set(remarks)
        return routes


def _idle_timeouts(routes: Sequence[Route]) -> Sequence[str]:
    """Tell of timeouts that bound nothing: a function with `@route` has its own, and so has storing into a stream."""
    return [
        f"{each.name}: its timeout does nothing where it leads into a stream or to a function with @route"
        for each in routes
        if each.options.timeout is not None
        and any(isinstance(weighted.backend, Call | Publish) for weighted in each.backends)
    ]
