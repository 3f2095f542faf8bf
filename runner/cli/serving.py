"""Runs functions and serves HTTP in this process, or in several processes that this one watches over."""

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
from runner.cli.options import Workplace

if TYPE_CHECKING:
    from runner.discovery import Project
    from runner.process.http import OverHttp


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """What a process was told by the process that has started it; all defaults if a user has started it."""

    parent: int | None = None
    """The descriptor of the line to the process that has started this one."""
    http: int | None = None
    """The descriptor of the listening socket for HTTP."""
    each: str | None = None
    """How each invocation is printed: text or json; None: not at all."""
    alone: bool = False
    """Whether the NATS server is the project's own, so that no other release of the project uses it."""


def serve_here(
    place: Workplace,
    worker: WorkerOptions,
    load: Callable[[], Project],
    chosen: Callable[[Project], Sequence[Binding]],
) -> int:
    """Run in this process the functions that `chosen` takes of the project that `load` imports."""
    from runner.cli import stopsignals  # noqa: PLC0415  a supervisor does not need these
    from runner.cli.invocation import KEPT, Printer  # noqa: PLC0415
    from runner.client import working_with  # noqa: PLC0415
    from runner.process.app import Serving, serve  # noqa: PLC0415
    from runner.process.codefiles import imported_elsewhere  # noqa: PLC0415
    from runner.runtime.stop import Stop, unless  # noqa: PLC0415
    from runner.runtime.worker import Parent  # noqa: PLC0415

    if worker.each:
        # The printer prints a line for each attempt already.
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


def supervise(place: Workplace, workers: int, command: Callable[[int], list[str]]) -> int:
    """Run `workers` processes and watch over them; `command` gives the arguments of each, by its number."""
    from runner.cli import stopsignals  # noqa: PLC0415  a worker does not need these
    from runner.cli.tracing import tell_collector  # noqa: PLC0415
    from runner.runtime.stop import Stop  # noqa: PLC0415
    from runner.runtime.supervisor import Supervisor  # noqa: PLC0415

    settings = place.settings
    shared: list[str] = []
    descriptors: tuple[int, ...] = ()
    if settings.http is not None:
        from runner.gateway import sockets  # noqa: PLC0415  only for HTTP
        from runner.process.http import require  # noqa: PLC0415

        require()
        listening = sockets.bound(settings.http)  # held here: no connection is lost when a worker ends
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


def _http(place: Workplace, worker: WorkerOptions, functions: Sequence[Binding]) -> OverHttp | None:
    """What this process serves over HTTP; None: nothing."""
    settings = place.settings
    if worker.http is None and settings.http is None:
        return None
    if worker.each and not (
        settings.routes or settings.route_files or any(each.route is not None for each in functions)
    ):
        return None  # in development, without any route
    from runner.gateway import sockets  # noqa: PLC0415  only for HTTP
    from runner.process.http import OverHttp, require  # noqa: PLC0415

    require()
    listening = sockets.handed(worker.http) if worker.http is not None else sockets.bound(settings.http or "")
    quiet = worker.each or not logging.getLogger("jetrunner.access").isEnabledFor(logging.INFO)
    return OverHttp(listening=listening, access=None if quiet else _write)


def _write(lines: bytes) -> None:
    """Write lines of the access log to stderr, as everything that is not data."""
    sys.stderr.buffer.write(lines)
    sys.stderr.buffer.flush()
