"""`runner deadletter list`: shows the dead letters of a project."""

from __future__ import annotations

from typing import Any

import click

from runner.cli import loop, options, parkedkeys, printed, times
from runner.cli.selection import document, require_function, selected, selection_options
from runner.cli.session import session
from runner.cli.table import counted, show
from runner.core import deadletter
from runner.core.deadletter import DeadLetter
from runner.core.redaction import Rules
from runner.jetstream.deadletters import DeadLetters, Selection


@click.command(
    "list", epilog="Example: runner deadletter list --function charge --reason exhausted --since 24h"
)
@selection_options
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="The newest; 0 for all."
)
@click.option("--parked", is_flag=True, help="Show the parked keys instead, and how many messages each has.")
@options.output_option
@options.connected
def list_command(
    function: str | None, reason: str | None, since: str | None, limit: int, parked: bool, output: str
) -> None:
    """Show the dead letters of the project, the newest last.

    `show` and `redrive` take SEQUENCE; MESSAGE is the place of the original in its stream. A key is parked when a message of it was
    given up in a function with on_exhausted="park".
    """
    place = options.place()
    selection = selected(place, function, reason, since)
    if parked:
        _show_parked(selection, output)
        return
    found: list[DeadLetter] = []
    more, total, keys = False, 0, 0

    async def main() -> None:
        nonlocal more, total, keys
        async with session(place.settings) as connection:
            keys = len(await parkedkeys.marks(connection, selection.project, selection.function))
            letters = DeadLetters(connection)
            await require_function(letters, selection, place.root)
            if not limit:
                found.extend([stored.letter async for stored in letters.browse(selection)])
                return
            newest, more = await letters.newest(selection, limit)
            found.extend(stored.letter for stored in newest)
            if more and selection.is_whole:
                counts = await letters.counts(selection.project)
                total = counts.get(selection.function, 0) if selection.function else sum(counts.values())

    loop.run(main)
    rules = Rules.of(place.settings.redact)
    if output == "json":
        click.echo(printed.data([document(letter, rules) for letter in found]))
    else:
        show(
            [">SEQUENCE", "TIME", "FUNCTION", "REASON", ">ATTEMPTS", "MESSAGE", "~ERROR"],
            [_row(deadletter.redacted(letter, rules)) for letter in found],
        )
    if more:
        # To count the dead letters of one reason, all of them would have to be read.
        of = f" of {total:,}" if total > len(found) else ", and there are older ones"
        click.echo(f"the newest {len(found):,}{of}; --limit 0 shows all", err=True)
    elif not found:
        click.echo("no dead letters", err=True)
    if keys:
        click.echo(f"{counted(keys, 'key')} parked; --parked shows {'it' if keys == 1 else 'them'}", err=True)


def _show_parked(selection: Selection, output: str) -> None:
    found: list[dict[str, Any]] = []

    async def main() -> None:
        settings = options.place().settings
        async with session(settings) as connection:
            found.extend(
                await parkedkeys.documents(
                    connection, Rules.of(settings.redact), selection.project, selection.function
                )
            )

    loop.run(main)
    parkedkeys.show(found, output)


def _row(letter: DeadLetter) -> list[str]:
    error = " ".join(f"{letter.error}: {letter.message}".split()) if letter.message else letter.error
    return [
        str(letter.sequence),
        times.seconds(letter.time),
        letter.function,
        letter.reason,
        str(letter.attempts),
        f"{letter.stream}:{letter.origin_sequence}",
        error,
    ]
