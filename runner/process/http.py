"""HTTP in a process: what it listens on, which routes are declared, and how it is begun."""

from __future__ import annotations

import gc
import importlib.util
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from runner.bindings import Binding
from runner.core.http.route import Route
from runner.discovery import Project
from runner.errors import SettingsError
from runner.runtime.runtime import Runtime

if TYPE_CHECKING:
    from runner.gateway.declarations import Declarations
    from runner.gateway.edge import Edge

log = logging.getLogger("jetrunner.gateway")

NEEDED = ("httptools", "uvicorn", "yaml")
THRESHOLD = 50_000
"""Objects that are made until the collector looks: at its own 700, it would look many times a second at what requests leave."""


class OverHttp(Struct, frozen=True, kw_only=True):
    """What a process serves over HTTP."""

    listening: socket.socket
    routes: Sequence[Route] = ()
    """Those that are declared beside functions with `@route`, and those of the settings."""
    access: Callable[[bytes], None] | None = None
    """Takes lines of the access log."""


def is_possible() -> bool:
    """Whether the packages are here that it needs."""
    return all(importlib.util.find_spec(name) is not None for name in NEEDED)


def require() -> None:
    """Raise SettingsError where they are not."""
    if not is_possible():
        raise SettingsError(
            f"HTTP needs {' and '.join(NEEDED)}, which are not installed",
            hint="install jetrunner with its extra `http`",
        )


class Web(Struct, frozen=True):
    """What serves HTTP in this process, and what is declared for it."""

    edge: Edge
    declarations: Declarations
    http: OverHttp


def web(runtime: Runtime, project: Project, bindings: Sequence[Binding], http: OverHttp | None) -> Web | None:
    """Make it; None where nothing is served. Raises SettingsError and UsageError."""
    if http is None:
        return None
    require()
    from runner.gateway.declarations import Declarations  # noqa: PLC0415  with an extra
    from runner.gateway.edge import Edge  # noqa: PLC0415  the same

    declarations = Declarations(runtime.settings, project.functions)
    routes = (*http.routes, *declarations.routes())
    return Web(Edge(runtime, bindings, routes, access=http.access), declarations, http)


async def open_web(web: Web) -> None:
    """Take requests from now on, and what is declared anew as long as the process runs."""
    gc.collect()  # everything is imported and made: the collector need not look at it again, and at the rest less often
    gc.freeze()
    gc.set_threshold(THRESHOLD, 20, 50)
    await web.edge.open(web.http.listening)


async def follow(web: Web) -> None:
    """Take what is declared anew, as long as the process runs."""

    async def changes() -> AsyncIterator[Sequence[Route]]:
        async for routes in web.declarations.changes():
            yield (*web.http.routes, *routes)

    await web.edge.follow(changes())


def tell_unserved(bindings: Sequence[Binding]) -> None:
    """Say that functions with `@route` do not run here."""
    if bindings:
        names = ", ".join(each.both_names for each in bindings)
        log.info("not served here, but by `runner gateway` and with --http HOST:PORT: %s", names)
