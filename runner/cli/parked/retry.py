"""`runner parked retry`: brings a parked key back, its head first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from runner.cli import failure, loop, options, parkedkeys, printed
from runner.cli.selection import selected
from runner.cli.session import session
from runner.cli.table import counted
from runner.cli.whereabouts import Whereabouts
from runner.core import shown
from runner.core.redaction import Rules
from runner.errors import JetrunnerError, UsageError
from runner.jetstream.deadletters import Selection


@click.command("retry", epilog="Example: runner parked retry anna")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option("--function", metavar="NAME", help="Of this function alone.")
@options.output_option
@options.connected
def retry_command(keys: tuple[str, ...], function: str | None, output: str) -> None:
    """Run the message that KEY waits behind again, then its parked messages, in order, and all before newer ones.

    KEY is as `runner parked list` shows it: several tokens are joined by dots. If one of the messages is given up, the key is
    parked again. A running instance does this, or the next one that starts. `runner deadletter redrive --key` is the same.
    """
    require_keys(keys)
    place = options.place()
    bring_back(selected(place, function, None, None), [*dict.fromkeys(keys)], output)


def require_keys(keys: Sequence[str], option: str = "KEY") -> None:
    """Raise UsageError for a text that can be no key; `option` is where it was given."""
    for key in keys:
        if not key or " " in key:
            raise UsageError(
                f"{option} {key!r} is none: it is empty, or has a space in it",
                hint="runner parked list shows those that are parked",
            )


def bring_back(selection: Selection, keys: Sequence[str], output: str) -> None:
    """Have running instances bring parked keys back, and print each."""
    told: list[dict[str, Any]] = []
    errors: list[JetrunnerError] = []
    missing: list[str] = []
    place = options.place()
    rules = Rules.of(place.settings.redact)

    async def main() -> None:
        async with session(place.settings) as connection:
            whereabouts = Whereabouts(connection, place.root, selection.project)
            for key in keys:
                back, stays = await parkedkeys.bring_back(
                    connection, rules, whereabouts, selection.project, selection.function, key
                )
                told.extend(back)
                errors.extend(stays)
                if not back and not stays:
                    missing.append(key)

    loop.run(main)
    if output == "json" and told:
        click.echo(printed.data({"keys": told}))
    for each in told if output == "text" else ():
        click.echo(
            f"{each['function']}: key {shown.line(each['key'])} comes back: "
            f"{counted(each['dead_letters'], 'dead letter')}, then {each['parked']:,} parked"
        )
    if missing:
        where = f" in {selection.function}" if selection.function else ""
        errors.append(
            JetrunnerError(
                f"no messages of key {', '.join(map(repr, missing))} are parked{where}",
                hint="runner parked list shows those that are",
            )
        )
    for error in errors[:-1]:
        failure.say(str(error), error.hint)
    if errors:
        raise errors[-1]
