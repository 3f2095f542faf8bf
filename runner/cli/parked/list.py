"""`runner parked list`: shows the parked keys."""

from __future__ import annotations

from typing import Any

import click

from runner.cli import loop, options, parkedkeys
from runner.cli.selection import selected
from runner.cli.session import session
from runner.core.redaction import Rules


@click.command("list", epilog="Example: runner parked list --function charge")
@click.option("--function", metavar="NAME", help="Of this function.")
@options.output_option
@options.connected
def list_command(function: str | None, output: str) -> None:
    """Show the keys that wait, or are on their way back.

    HEAD is the message that a key waits behind, ERROR why it was given up, PARKED how many messages wait behind it.
    `runner parked retry KEY` runs the head again, `runner parked skip KEY` gives it up for good; then the parked messages run, in
    order. `runner deadletter show` prints all details of the head; --output json has the sequence for it.
    """
    place = options.place()
    selection = selected(place, function, None, None)
    found: list[dict[str, Any]] = []

    async def main() -> None:
        async with session(place.settings) as connection:
            found.extend(
                await parkedkeys.documents(
                    connection, Rules.of(place.settings.redact), selection.project, selection.function
                )
            )

    loop.run(main)
    parkedkeys.show(found, output)
