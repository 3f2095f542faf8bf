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
from runner.errors import SettingsError
from runner.runtime.runtime import Runtime

if TYPE_CHECKING:
    from runner.gateway.edge import Edge

log = logging.getLogger("jetrunner.gateway")

NEEDED = ("httptools", "uvicorn")
THRESHOLD = 50_000
"""Objects that are made until the collector looks: at its own 700, it would look many times a second at what requests leave."""


async def never() -> AsyncIterator[Sequence[Route]]:
    """Nothing changes."""
    nothing: tuple[Sequence[Route], ...] = ()
    for each in nothing:
        yield each


class OverHttp(Struct, frozen=True, kw_only=True):
    """What a process serves over HTTP."""

    listening: socket.socket
    routes: Callable[[], Sequence[Route]] = tuple
    """Those that are declared beside functions with `@route`. Raises UsageError for what is none."""
    changes: Callable[[], AsyncIterator[Sequence[Route]]] = never
    """The same, each time they are declared anew."""
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


def edge(runtime: Runtime, bindings: Sequence[Binding], http: OverHttp | None) -> Edge | None:
    """What serves HTTP in this process; None where nothing does. Raises SettingsError and UsageError."""
    if http is None:
        return None
    require()
    from runner.gateway.edge import Edge  # noqa: PLC0415  with an extra
    from runner.gateway.limits import Limits  # noqa: PLC0415  the same

    limits = Limits(body_bytes=runtime.settings.http_body_limit)
    return Edge(runtime, bindings, http.routes(), limits=limits, access=http.access)


async def follow(web: Edge, http: OverHttp) -> None:
    """Take routes that were declared anew, as long as the process runs; what is wrong with them is told, and those before stay."""
    gc.collect()  # everything is imported and made: the collector need not look at it again, and at the rest less often
    gc.freeze()
    gc.set_threshold(THRESHOLD, 20, 50)
    async for routes in http.changes():
        web.take(routes)
        log.info("routes were changed: %d are declared", len(routes))


def tell_unserved(bindings: Sequence[Binding]) -> None:
    """Say that functions with `@route` do not run here."""
    if bindings:
        names = ", ".join(each.both_names for each in bindings)
        log.info("not served here, but by `runner gateway` and with --http HOST:PORT: %s", names)
