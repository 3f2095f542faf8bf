"""`runner plan`: the difference between the declared streams and the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click
from msgspec import Struct

from runner import discovery
from runner.bindings import Binding
from runner.cli.plantext import document, lines, summary
from runner.config import Settings, load_settings
from runner.core.plan import Plan
from runner.core.streamconfig import DeclaredStream
from runner.errors import JetrunnerError, UsageError
from runner.jetstream.connection import connect
from runner.jetstream.stream import load_streams, plan_project

F = TypeVar("F", bound=Callable[..., Any])


class Declared(Struct, frozen=True):
    """What a project folder says: its settings, stream files and functions."""

    settings: Settings
    streams: tuple[DeclaredStream, ...]
    functions: Sequence[Binding]


def plan_options(command: F) -> F:
    """The options that `plan` and `apply` share."""
    for option in (
        click.option("--output", type=click.Choice(["text", "json"]), default="text", help="How to print."),
        click.option("--nats-context", metavar="NAME", help="A context of the `nats` command."),
        click.option("--nats-creds", metavar="FILE", help="A credentials file."),
        click.option("--nats-url", metavar="URL", help="Where NATS is."),
    ):
        command = option(command)
    return command


@click.command("plan", epilog="Example: runner plan --nats-url nats://127.0.0.1:4222")
@plan_options
def plan_command(output: str, **nats: str | None) -> None:
    """Show how the streams and consumers on the server differ from the project's.

    Marks: + is created, ~ is changed, ! is refused, - is not ours any more. Nothing is changed.
    """
    declared = read_project(Path.cwd(), nats)
    plan, errors = anyio.run(_plan, declared)
    show(plan, output)
    refuse(errors)


def read_project(root: Path, nats: dict[str, str | None]) -> Declared:
    """A project's own side of the plan. Raises UsageError for whatever is wrong in it."""
    settings = load_settings(root, nats)
    streams = load_streams(root)
    project = discovery.load(root, settings.name or None)
    return Declared(settings, streams, project.functions)


def show(plan: Plan, output: str, *, done: bool = False) -> None:
    """Print a plan: data to stdout, the count to stderr."""
    if output == "json":
        click.echo(json.dumps(document(plan), indent=2))
        return
    for line in lines(plan):
        click.echo(line)
    click.echo(summary(plan, done=done), err=True)


def refuse(errors: Sequence[JetrunnerError]) -> None:
    """Raise the errors of a plan, several as one."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        hints = "\n      ".join(dict.fromkeys(error.hint for error in errors if error.hint))
        raise UsageError("\n       ".join(str(error) for error in errors), hint=hints)


async def _plan(declared: Declared) -> tuple[Plan, list[JetrunnerError]]:
    async with connect(declared.settings) as connection:
        return await plan_project(connection, declared.streams, declared.functions, declared.settings.name)
