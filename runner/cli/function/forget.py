"""`runner function forget`: removes what a function that is gone has left on the server."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from runner.bindings import Binding
from runner.cli import functions, loop, options, printed
from runner.cli.selection import require_project
from runner.cli.session import session
from runner.cli.table import counted
from runner.core import identity
from runner.errors import JetrunnerError, UsageError
from runner.jetstream.connection import Connection
from runner.jetstream.leftovers import Forgetting, Leftovers
from runner.runtime.snapshots import PATIENCE_SECONDS, collect


@click.command(
    "forget",
    epilog="""Examples:

\b
  runner function forget ship --dry-run
  runner function forget ship --yes""",
)
@click.argument("name", metavar="NAME")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Tell what there is, and remove nothing.")
@options.output_option
@options.connected
def forget_command(name: str, yes: bool, dry_run: bool, output: str) -> None:
    """Remove for good all that the server holds of a function that will not come back.

    The command removes its durables with their positions, its parked messages and keys, its dead letters, and its schedule. The
    messages in your streams stay; if the function came back, it would run them from the beginning. The command refuses a function
    that the code or a running instance has. If a function only has another name now, use @consume(..., renamed_from="NAME")
    instead. The command needs more permissions than `runner permissions` prints for an operator: to delete consumers, and to purge
    Jetrunner's own streams.
    """
    place = options.place()
    project = require_project(place.settings.name)
    if not name.isidentifier():
        raise UsageError(f"{name!r} cannot be the name of a function")
    code = functions.all_functions(place.root, project)
    if code is None:
        raise UsageError(
            f"the code of {project} cannot be imported, so whether {name} is gone is not known",
            hint="runner check says why; go into its folder, or give --project DIR",
        )
    if any(each.function == name for each in code):
        raise UsageError(
            f"{name} is a function of {project}", hint="remove it from the code first, and stop what runs it"
        )
    taken = _taken(code, project)

    async def find() -> Leftovers:
        async with session(place.settings) as connection:
            await _require_gone(connection, project, name)
            return await Forgetting(connection, project, name, taken).find()

    async def remove() -> Leftovers:
        async with session(place.settings) as connection:
            await _require_gone(connection, project, name)
            forgetting = Forgetting(connection, project, name, taken)
            found = await forgetting.find()
            await forgetting.remove(found)
            return found

    found = loop.run(find)
    if found.nothing:
        raise UsageError(
            f"the server holds nothing of a function {name}", hint="runner status shows what it holds"
        )
    if not dry_run:
        if not yes:
            _confirm(name, found)
        found = loop.run(remove)
    show(name, found, output, dry_run=dry_run)


async def _require_gone(connection: Connection, project: str, name: str) -> None:
    told = await collect(connection, project, PATIENCE_SECONDS)
    running = [each for each in told if name in each["functions"]]
    if running:
        raise JetrunnerError(
            f"{name} runs in {', '.join(each['instance'] for each in running)}", hint="stop that first"
        )


def _taken(code: tuple[Binding, ...], project: str) -> frozenset[str]:
    """The durables of the functions that are in the code."""
    return frozenset(each.durable or identity.durable(project, each.function) for each in code)


def _told(found: Leftovers) -> str:
    parts = [
        counted(len(found.durables), "durable") + f" with {counted(found.to_run, 'message')} to run",
        f"{found.parked:,} parked",
        counted(found.dead_letters, "dead letter"),
    ]
    if found.gathering:
        parts.append(f"{counted(found.gathering, 'message')} of events that are not joined")
    if found.scheduled:
        parts.append(f"{counted(found.scheduled, 'message')} of its schedule")
    if found.sent_back:
        parts.append(f"{found.sent_back:,} on their way back")
    return f"{', '.join(parts)}, {counted(len(found.keys), 'key')} of its state"


def _confirm(name: str, found: Leftovers) -> None:
    """Ask the user while no connection is open, because an answer may take minutes."""
    if not sys.stdin.isatty():
        raise UsageError(
            f"this would be removed of {name} for good: {_told(found)}",
            hint="give --yes, or --dry-run to see what there is",
        )
    click.confirm(f"Remove what is left of {name} for good: {_told(found)}?", abort=True, err=True)


def show(name: str, found: Leftovers, output: str, *, dry_run: bool) -> None:
    """Print what was removed, or would be."""
    if output == "json":
        told: dict[str, Any] = {
            "function": name,
            "removed": not dry_run,
            "durables": msgspec.to_builtins(found.durables),
            "parked": found.parked,
            "dead_letters": found.dead_letters,
            "sent_back": found.sent_back,
            "gathering": found.gathering,
            "scheduled": found.scheduled,
            "keys": len(found.keys),
        }
        click.echo(printed.data(told))
        return
    click.echo(f"{name}: {'there is' if dry_run else 'removed'} {_told(found)}")
