"""`runner gateway`: serves HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import structs

from runner.bindings import Binding
from runner.cli import logs, options
from runner.cli.options import Workplace
from runner.cli.run import worker_health
from runner.cli.serving import WorkerOptions, serve_here, supervise
from runner.devserver import FUNCTIONS

if TYPE_CHECKING:
    from runner.discovery import Project

DEFAULT = "127.0.0.1:8080"


@click.command(
    "gateway",
    epilog="""Examples:

\b
  runner gateway --listen 0.0.0.0:8080
  runner gateway --listen 0.0.0.0:8080 --routes ingress.yaml --workers 2""",
)
@options.connected
@click.option(
    "--listen", metavar="HOST:PORT", help=f"Where it listens.  [default: the setting http, else {DEFAULT}]"
)
@click.option(
    "--routes",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path),
    help="A file or folder of Ingress and HTTPRoute manifests, read again when it changes; may be repeated.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Supervised processes.  [default: none, run in this process]",
)
@click.option(
    "--health",
    metavar="HOST:PORT",
    help="Serve /livez, /readyz and /metrics; with several workers, each on the next port.",
)
@click.option(
    "--drain-timeout", metavar="SECONDS", help="Time that requests get to be answered.  [default: 30]"
)
@click.option("--parent", type=int, hidden=True)
@click.option("--http-fd", type=int, hidden=True)
def gateway_command(
    listen: str | None,
    routes: tuple[Path, ...],
    workers: int | None,
    health: str | None,
    drain_timeout: str | None,
    parent: int | None,
    http_fd: int | None,
) -> int:
    """Serve HTTP until told to stop: functions with @route, which run here, and declared routes.

    Declared routes lead to functions with @reply, wherever they run, and into streams. A project without functions/ has only
    declared routes. SIGTERM or Ctrl-C closes the listening socket, and answers the requests that have arrived. The access log goes
    to stderr, one line of JSON for each request.
    """
    if parent is not None:
        from runner.cli import stopsignals  # noqa: PLC0415  a supervisor imports it later

        stopsignals.leave_to_parent()
    place = options.place(http=listen, workers=workers, health=health, drain_timeout=drain_timeout)
    settings = structs.replace(
        place.settings,
        http=place.settings.http or DEFAULT,
        route_files=(*place.settings.route_files, *(str(each.absolute()) for each in routes)),
    )
    place = structs.replace(place, settings=settings)
    if parent is not None:
        logs.configure(settings.log_level, settings.log_format, processes=True)
    elif settings.workers is not None:
        return _supervise(place, settings.workers, routes)
    return serve_here(place, WorkerOptions(parent=parent, http=http_fd), lambda: _load(place), _routed)


def _load(place: Workplace) -> Project:
    from runner import discovery  # noqa: PLC0415  a supervisor does not need it
    from runner.discovery import Project  # noqa: PLC0415

    if (place.root / FUNCTIONS).is_dir():
        return discovery.load(place.root, place.settings.name or None)
    return Project(place.root, place.settings.name or "gateway", ())


def _routed(project: Project) -> Sequence[Binding]:
    return [each for each in project.functions if each.route is not None]


def _supervise(place: Workplace, workers: int, routes: Sequence[Path]) -> int:
    settings = place.settings
    common = [*options.arguments(place), "--drain-timeout", f"{settings.drain_timeout}"]
    for each in routes:
        common += ["--routes", str(each.absolute())]

    def command(number: int) -> list[str]:
        own = ["--health", worker_health(settings.health, number)] if settings.health else []
        return ["gateway", *common, *own, "--workers", "1"]

    return supervise(place, workers, command)
