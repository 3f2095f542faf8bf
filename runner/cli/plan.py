"""`runner plan`: shows how the streams on the server differ from the declared ones."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import click
from msgspec import Struct

from runner.bindings import Binding
from runner.cli import code, printed
from runner.cli.options import connected, output_option, project
from runner.cli.plantext import document, lines, summary
from runner.cli.session import session
from runner.config import Settings
from runner.core import shown
from runner.core.streams.config import DeclaredStream
from runner.core.streams.plan import Plan
from runner.errors import JetrunnerError, several
from runner.streams.plan import load_streams, plan_project


class DeclaredProject(Struct, frozen=True):
    """What a project's folder declares: settings, streams and functions."""

    settings: Settings
    streams: tuple[DeclaredStream, ...]
    functions: Sequence[Binding]


@click.command("plan", epilog="Example: runner plan --nats-url nats://127.0.0.1:4222")
@connected
@output_option
def plan_command(output: str) -> int:
    """Show how the streams, consumers and schedules on the server differ from the project's.

    Marks: + is created, ~ is changed, ! is refused, - is no longer declared. Nothing is changed. Exits with 1 if a change is
    refused.
    """
    declared = read_project()
    plan, errors = anyio.run(_plan, declared)
    show(plan, output)
    refuse(errors)
    return 1 if plan.refused else 0


def read_project() -> DeclaredProject:
    """What the current project declares. Raises UsageError if something in it is wrong."""
    here = project()
    streams = load_streams(here.root)
    functions = code.load(here.root, here.settings.name or None).functions
    return DeclaredProject(here.settings, streams, functions)


def show(plan: Plan, output: str, *, done: bool = False) -> None:
    """Print a plan: the differences to stdout, their number to stderr."""
    if output == "json":
        click.echo(printed.data(document(plan)))
        return
    for line in lines(plan):
        click.echo(shown.line(line))
    click.echo(summary(plan, done=done), err=True)


def refuse(errors: Sequence[JetrunnerError]) -> None:
    """Raise the errors of a plan, several as one."""
    if errors:
        raise several(errors)


async def _plan(declared: DeclaredProject) -> tuple[Plan, list[JetrunnerError]]:
    async with session(declared.settings) as connection:
        return await plan_project(connection, declared.streams, declared.functions, declared.settings.name)
