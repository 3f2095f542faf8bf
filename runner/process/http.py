"""HTTP in a process: the socket, the declared routes, and the start of the gateway."""

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
"""Number of new objects after which Python's collector runs. With its default of 700 it would run many times a second."""


class OverHttp(Struct, frozen=True, kw_only=True):
    """What a process serves over HTTP."""

    listening: socket.socket
    routes: Sequence[Route] = ()
    """Routes in addition to functions with `@route` and to declared routes."""
    access: Callable[[bytes], None] | None = None
    """Takes lines of the access log."""


def is_possible() -> bool:
    """Whether the packages that HTTP needs are installed."""
    return all(importlib.util.find_spec(name) is not None for name in NEEDED)


def require() -> None:
    """Raise SettingsError if a package that HTTP needs is missing."""
    if not is_possible():
        raise SettingsError(
            f"HTTP needs {' and '.join(NEEDED)}, which are not installed",
            hint="install jetrunner with its extra `http`",
        )


class Web(Struct, frozen=True):
    """The HTTP edge of this process, and the routes that are declared for it."""

    edge: Edge
    declarations: Declarations
    http: OverHttp
    all: Callable[[Sequence[Route]], Sequence[Route]]
    """Adds to the declared routes all others that this process serves."""


def web(runtime: Runtime, project: Project, bindings: Sequence[Binding], http: OverHttp | None) -> Web | None:
    """Make the `Web` of this process; None if it serves no HTTP. Raises SettingsError and UsageError."""
    if http is None:
        return None
    require()
    from runner.gateway.declarations import Declarations  # noqa: PLC0415  with an extra
    from runner.gateway.docs import with_docs  # noqa: PLC0415  the same
    from runner.gateway.edge import Edge  # noqa: PLC0415  the same

    def all_(declared: Sequence[Route]) -> Sequence[Route]:
        return with_docs(project, (*http.routes, *declared), runtime.settings)

    declarations = Declarations(runtime.settings, project.functions)
    edge = Edge(runtime, bindings, all_(declarations.routes()), access=http.access)
    return Web(edge, declarations, http, all_)


async def open_web(web: Web) -> None:
    """Take requests from now on."""
    gc.collect()  # everything is imported and made: the collector need not look at it again, and less often at the rest
    gc.freeze()
    gc.set_threshold(THRESHOLD, 20, 50)
    await web.edge.open(web.http.listening)


async def follow(web: Web) -> None:
    """Take over changes of the declared routes, as long as the process runs."""

    async def changes() -> AsyncIterator[Sequence[Route]]:
        async for routes in web.declarations.changes():
            yield web.all(routes)

    await web.edge.follow(changes())


def tell_unserved(bindings: Sequence[Binding]) -> None:
    """Log that functions with `@route` do not run here."""
    if bindings:
        names = ", ".join(each.both_names for each in bindings)
        log.info("routes that only `runner gateway` or --http HOST:PORT serve: %s", names)
