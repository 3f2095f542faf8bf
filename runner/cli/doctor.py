"""`runner doctor`: prints what will hurt the project's functions, what that means, and the remedy."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from runner.cli import code, loop, options, printed
from runner.cli.permissions import INBOX, reader_of
from runner.cli.session import session
from runner.cli.table import counted
from runner.core import shown
from runner.core.doctor.finding import Finding
from runner.jetstream.permissions import of_run
from runner.streams.doctor import Patient, examine
from runner.streams.plan import real_streams, subjects_of_streams


@click.command("doctor", epilog="Example: runner doctor --nats-url nats://nats.internal:4222")
@options.output_option
@options.connected
def doctor_command(output: str) -> int:
    """Look at the server, and print what will or may hurt this project's functions, with a remedy for each.

    It checks the server's release, the account's limits and the clocks, each permission that `runner permissions` prints for `run`,
    and what removed functions have left. In the settings of streams and durables it looks for messages that are lost before their
    last attempt, stored twice, or out of order. Nothing is changed: a permission is tested by a request that the server refuses for
    another reason. What handlers publish to other subjects is not tested, nor are permissions to subscribe.

    Exits with 1 if something will hurt.
    """
    place = options.project()
    project = code.load(place.root, place.settings.name or None)

    async def look() -> list[Finding]:
        async with session(place.settings) as connection:
            known = subjects_of_streams((), await real_streams(connection))
            readers = [reader_of(project.name, each, known) for each in project.functions]
            rights = of_run(project.name, readers, place.settings.nats_inbox_prefix or INBOX)
            return await examine(Patient(connection, project.name, project.functions, rights))

    found = sorted(loop.run(look), key=lambda each: each.severity != "hurts")
    if output == "json":
        click.echo(printed.data({"project": project.name, "findings": msgspec.to_builtins(found)}))
    else:
        show(found)
    return 1 if any(each.severity == "hurts" for each in found) else 0


def show(found: Sequence[Finding]) -> None:
    """Print each finding with its meaning and its remedy, and their number to stderr."""
    for each in found:
        colour = "red" if each.severity == "hurts" else "yellow"
        click.echo(
            f"{click.style(f'{each.severity}:', fg=colour, bold=True)} {shown.line(f'{each.check}: {each.what}')}"
        )
        for word, text in (("means", each.meaning), ("remedy", each.remedy)):
            click.echo(f"    {word}: {shown.line(text)}")
    hurts = sum(each.severity == "hurts" for each in found)
    told = (
        f"{counted(hurts, 'thing')} will hurt, {counted(len(found) - hurts, 'thing')} may"
        if found
        else "all well"
    )
    click.echo(told, err=True)
