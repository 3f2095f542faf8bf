"""`runner run`: runs a project's functions in production."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from runner.bindings import Binding
from runner.cli import logs, loop, options
from runner.cli.options import Workplace
from runner.cli.serving import WorkerOptions, serve_here, supervise
from runner.errors import UsageError
from runner.values import did_you_mean

if TYPE_CHECKING:
    from runner.discovery import Project


@click.command(
    "run", epilog="Example: runner run --nats-url nats://nats.internal:4222 --workers 4 --health 0.0.0.0:8080"
)
@options.connected
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Supervised processes: one that dies is started again.  [default: none, run in this process]",
)
@click.option("--only", multiple=True, metavar="FUNCTION", help="Run this function alone; may be repeated.")
@click.option(
    "--except", "excluded", multiple=True, metavar="FUNCTION", help="Run all but this; may be repeated."
)
@click.option(
    "--health",
    metavar="HOST:PORT",
    help="Serve /livez, /readyz and /metrics; with several workers, each on the next port.",
)
@click.option(
    "--http", metavar="HOST:PORT", help="Serve functions with @route, and declared routes, here as well."
)
@click.option(
    "--drain-timeout", metavar="SECONDS", help="Time running handlers get to finish.  [default: 30]"
)
@click.option(
    "--weight",
    metavar="NUMBER",
    help="This instance's share of requests from askers that balance; the others have 1.  [default: 1]",
)
@click.option("--parent", type=int, hidden=True)
@click.option("--http-fd", type=int, hidden=True)
@click.option("--cell", type=int, hidden=True)
@click.option("--each", type=click.Choice(["text", "json"]), hidden=True)
@click.option("--alone", is_flag=True, hidden=True)
def run_command(
    workers: int | None,
    only: tuple[str, ...],
    excluded: tuple[str, ...],
    health: str | None,
    drain_timeout: str | None,
    weight: str | None,
    http: str | None,
    parent: int | None,
    http_fd: int | None,
    cell: int | None,
    each: str | None,
    alone: bool,
) -> int:
    """Run the project's functions until told to stop.

    The streams must exist (runner apply); durables and Jetrunner's own streams are made. SIGTERM or Ctrl-C drains: running handlers
    finish, and messages that have not started go back to the server. A second signal cancels the running handlers, a third ends the
    process at once.
    """
    if parent is not None or cell is not None:
        from runner.cli import stopsignals  # noqa: PLC0415  a supervisor imports it later

        stopsignals.leave_to_parent()
    if cell is not None:
        return _cell(cell)
    place = options.project(
        workers=workers, http=http, health=health, drain_timeout=drain_timeout, weight=weight
    )
    if parent is not None and each is None:
        logs.configure(place.settings.log_level, place.settings.log_format, processes=True)
    if place.settings.workers is not None and parent is None:
        return _supervise(place, place.settings.workers, only, excluded)
    return serve_here(
        place,
        WorkerOptions(parent=parent, http=http_fd, each=each, alone=alone),
        lambda: _load(place),
        lambda project: chosen(project.functions, only, excluded),
    )


def _cell(descriptor: int) -> int:
    """Run messages that may kill their process, for the process that has started this one."""
    from runner.process import cellwork  # noqa: PLC0415

    cellwork.die_with_parent()
    loop.run(
        lambda: cellwork.serve(
            descriptor,
            lambda settings: logs.configure(settings.log_level, settings.log_format, processes=True),
        )
    )
    return 0


def _load(place: Workplace) -> Project:
    from runner import discovery  # noqa: PLC0415  a supervisor does not need it

    return discovery.load(place.root, place.settings.name or None)


def _supervise(place: Workplace, workers: int, only: Sequence[str], excluded: Sequence[str]) -> int:
    """Run `workers` processes and watch over them."""
    settings = place.settings
    common = options.arguments(place)
    for option, names in (("--only", only), ("--except", excluded)):
        for name in names:
            common += [option, name]
    common += ["--drain-timeout", f"{settings.drain_timeout}", "--weight", f"{settings.weight}"]

    def command(number: int) -> list[str]:
        own = ["--health", worker_health(settings.health, number)] if settings.health else []
        return ["run", *common, *own, "--workers", "1"]

    return supervise(place, workers, command)


def worker_health(address: str, number: int) -> str:
    """The address at which a worker serves its health: each worker, numbered from 0, has the next port."""
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + number if int(port) else 0}"


def chosen(functions: Sequence[Binding], only: Sequence[str], excluded: Sequence[str]) -> list[Binding]:
    """The functions to run. Raises UsageError for an unknown name, or when no function is left."""
    known = [binding.label for binding in functions]
    for name in (*only, *excluded):
        if not any(name in {each.label, each.function} for each in functions):
            hint = did_you_mean(name, known) or f"there are: {', '.join(known) or 'none'}"
            raise UsageError(f"there is no function {name!r}", hint=hint)
    found = [
        binding
        for binding in functions
        if (not only or {binding.label, binding.function} & {*only})
        and not {binding.label, binding.function} & {*excluded}
    ]
    if not found:
        raise UsageError(
            "there is no function to run",
            hint="put one into functions/, or choose others with --only and --except",
        )
    return found
