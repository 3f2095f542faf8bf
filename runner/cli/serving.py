"""Processes that run functions and serve HTTP: this one, or several that this one watches over."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from msgspec import Struct

from runner.bindings import Binding
from runner.cli import loop, options
from runner.cli.options import Place

if TYPE_CHECKING:
    from runner.discovery import Project
    from runner.process.http import OverHttp


class Worker(Struct, frozen=True, kw_only=True):
    """What a process was told by the one that has started it; nothing of it where a user has."""

    parent: int | None = None
    """The line between the two."""
    http: int | None = None
    """The socket that HTTP comes on."""
    each: str | None = None
    """How each invocation is printed."""
    alone: bool = False
    """The server is the project's own, where no other release runs."""


def serve_here(
    place: Place, worker: Worker, load: Callable[[], Project], chosen: Callable[[Project], Sequence[Binding]]
) -> int:
    """Run in this process what `chosen` takes of the project that `load` imports."""
    from runner.cli import stopsignals  # noqa: PLC0415  what a supervisor does not need
    from runner.cli.invocation import KEPT, Printer  # noqa: PLC0415
    from runner.client import working_with  # noqa: PLC0415
    from runner.process.app import Serving, serve  # noqa: PLC0415
    from runner.process.codefiles import imported_elsewhere  # noqa: PLC0415
    from runner.runtime.stop import Stop, unless  # noqa: PLC0415
    from runner.runtime.worker import Parent  # noqa: PLC0415

    if worker.each:
        # What became of an attempt is a line of the printer's.
        for name in ("jetrunner.attempts", "jetrunner.requests"):
            logging.getLogger(name).setLevel(logging.ERROR)
    trace_url = "" if os.environ.pop(KEPT, None) else place.settings.trace_url
    line = Parent(worker.parent) if worker.parent is not None else None
    try:
        project = load()
    finally:
        if line is not None and worker.each:
            line.reads(imported_elsewhere(place.root))
    functions = chosen(project)
    http = _http(place, worker, functions)

    async def main() -> None:
        stop = Stop(stopsignals.end_in_any_case)

        async def may_start() -> bool:
            if line is None:
                return True
            told = await unless(stop.draining, line.loaded)
            if told:
                line.listen(stop.request, gone=stop.drain)
            return bool(told)

        with stopsignals.stopping(stop) if line is None else nullcontext(), working_with(place.settings):
            await serve(
                Serving(
                    project=project,
                    settings=place.settings,
                    functions=functions,
                    stop=stop,
                    supervised=line is not None,
                    may_start=may_start,
                    ready=lambda _: line.ready() if line is not None else None,
                    schedules="replace" if worker.alone else "apply" if worker.each else "stand",
                    observer=Printer(worker.each, trace_url, place.root) if worker.each else None,
                    http=http,
                )
            )

    loop.run(main)
    if line is not None:
        stopsignals.leave_to_the_end()
    return 0


def supervise(place: Place, workers: int, command: Callable[[int], list[str]]) -> int:
    """Run `workers` processes and watch over them; `command` gives the arguments of each, by its number."""
    from runner.cli import stopsignals  # noqa: PLC0415  what a worker does not need
    from runner.cli.tracing import tell_collector  # noqa: PLC0415
    from runner.runtime.stop import Stop  # noqa: PLC0415
    from runner.runtime.supervisor import Supervisor  # noqa: PLC0415

    settings = place.settings
    shared: list[str] = []
    descriptors: tuple[int, ...] = ()
    if settings.http is not None:
        from runner.gateway import sockets  # noqa: PLC0415  where HTTP is served
        from runner.process.http import require  # noqa: PLC0415

        require()
        listening = sockets.bound(settings.http)  # held here: a worker that comes or goes loses no connection
        descriptors = (listening.fileno(),)
        shared = ["--http-fd", str(listening.fileno())]

    async def main() -> int:
        await tell_collector()
        stop = Stop()
        supervisor = Supervisor(
            lambda number: [*command(number), *shared],
            workers,
            settings.drain_timeout,
            options.environment(place),
            descriptors,
        )
        with stopsignals.stopping(stop, before_exit=supervisor.kill):
            return await supervisor.run(stop)

    return loop.run(main, fast=False)


def _http(place: Place, worker: Worker, functions: Sequence[Binding]) -> OverHttp | None:
    """What this process serves over HTTP; None for nothing."""
    settings = place.settings
    if worker.http is None and settings.http is None:
        return None
    if worker.each and not (
        settings.routes or settings.route_files or any(each.route is not None for each in functions)
    ):
        return None  # in development, where nothing asks for it
    from runner.gateway import sockets  # noqa: PLC0415  where HTTP is served
    from runner.process.http import OverHttp, require  # noqa: PLC0415

    require()
    listening = sockets.handed(worker.http) if worker.http is not None else sockets.bound(settings.http or "")
    quiet = worker.each or not logging.getLogger("jetrunner.access").isEnabledFor(logging.INFO)
    return OverHttp(listening=listening, access=None if quiet else _write)


def _write(lines: bytes) -> None:
    """To stderr, as all that is no data."""
    sys.stderr.buffer.write(lines)
    sys.stderr.buffer.flush()
