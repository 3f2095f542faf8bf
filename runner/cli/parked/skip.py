"""`runner parked skip`: lets a parked key go on without the message that it waits behind."""

from __future__ import annotations

import time
from typing import Any

import click
from msgspec import Struct

from runner.cli import loop, options, parkedkeys, printed
from runner.cli.parked.retry import require_keys
from runner.cli.selection import document, selected
from runner.cli.session import session
from runner.cli.whereabouts import Whereabouts
from runner.core import identity, shown
from runner.core.origin import Origin
from runner.core.park import Letter, Mark
from runner.core.redaction import Rules
from runner.errors import JetrunnerError, UsageError
from runner.jetstream.connection import Connection
from runner.jetstream.deadletterpage import StoredDeadLetter
from runner.jetstream.deadletters import DeadLetters, Selection
from runner.jetstream.keymarks import KeyMarks
from runner.jetstream.ownstreams import DEADLETTERS
from runner.jetstream.parked import Name, Parked
from runner.runtime.history import History

LISTED = "runner parked list shows what waits, and behind which message"


class Skipped(Struct, frozen=True):
    """A key that goes on without its head, the message that it waited behind."""

    function: str
    key: str
    message_id: str
    dead_letter: dict[str, Any] | None
    """The head's dead letter as it was; None if it was gone already."""
    parked: int


@click.command("skip", epilog="Example: runner parked skip anna --function charge")
@click.argument("key")
@click.option("--function", metavar="NAME", help="Needed where the key is parked in several functions.")
@options.output_option
@options.connected
def skip_command(key: str, function: str | None, output: str) -> None:
    """Give up the message that KEY waits behind: its dead letter is removed, and the parked messages run, in order.

    No other message is lost, and no newer message runs before the parked ones. A running instance does this, or the next one that
    starts. If one of the messages is given up in turn, the key is parked behind that one. A key that is being brought back cannot
    be skipped, because its first message may be running.
    """
    place = options.place()
    require_keys([key])
    selection = selected(place, function, None, None)

    async def main() -> Skipped:
        async with session(place.settings) as connection:
            whereabouts = Whereabouts(connection, place.root, selection.project)
            rules = Rules.of(place.settings.redact)
            return await skip(connection, rules, whereabouts, selection, key)

    done = loop.run(main)
    if output == "json":
        click.echo(
            printed.data(
                {
                    "function": done.function,
                    "key": done.key,
                    "message_id": done.message_id,
                    "dead_letter": done.dead_letter,
                    "parked": done.parked,
                }
            )
        )
        return
    gone = "" if done.dead_letter is not None else ", whose dead letter was gone already"
    click.echo(
        f"{done.function}: key {shown.line(done.key)} goes on without {shown.line(done.message_id)}{gone}: "
        f"{done.parked:,} parked"
    )


async def skip(
    connection: Connection, rules: Rules, whereabouts: Whereabouts, selection: Selection, key: str
) -> Skipped:
    """Skip the head of a parked key. Raises JetrunnerError if the key is not parked, or its head is another message by then."""
    (function, _), mark = await _one(connection, selection, key)
    why = parkedkeys.refusal(await whereabouts.find(function, mark.positions), function, mark)
    if why is not None:
        raise why
    if (head := mark.given_up) is None:
        raise _unskippable(function, mark)
    letters = DeadLetters(connection)
    found = await _copies(connection, letters, Selection(project=selection.project, function=function), head)
    last = found[-1] if found else None
    letter = None
    if last is not None:
        place = last.letter.origin_sequence, last.letter.timestamp_ns
        letter = Letter(last.letter.sequence, last.stored_ns, *place)
    counts = await Parked(connection, selection.project).counts(function, key)
    marks = KeyMarks(connection, selection.project)
    if await marks.skip(function, key, head, letter, time.time()) is None:
        behind = identity.message_id(head.stream, head.sequence)
        raise JetrunnerError(f"key {key} of {function} does not wait behind {behind} any more", hint=LISTED)
    for copy in found:  # only now: before that write the key may have gone on to wait behind another message
        await letters.drop(copy)
    return Skipped(
        function,
        key,
        identity.message_id(head.stream, head.sequence),
        document(last.letter, rules) if last is not None else None,
        counts.get((function, identity.key_token(key)), 0),
    )


async def _copies(
    connection: Connection, letters: DeadLetters, selection: Selection, head: Origin
) -> list[StoredDeadLetter]:
    """The head's dead letters, the newest last; none only if a leader that most servers follow has none."""
    found = await letters.copies(selection, head)
    if not found and await History(connection, DEADLETTERS).follow():
        found = await letters.copies(selection, head)
    return found


async def _one(connection: Connection, selection: Selection, key: str) -> tuple[Name, Mark]:
    found = await parkedkeys.marks(connection, selection.project, selection.function, key)
    if not found:
        where = f" in {selection.function}" if selection.function else ""
        raise JetrunnerError(f"no messages of key {key!r} are parked{where}", hint=LISTED)
    if len(found) > 1:
        names = ", ".join(sorted(function for function, _ in found))
        raise UsageError(
            f"key {key!r} is parked in several functions: {names}", hint="give --function NAME of one"
        )
    ((name, mark),) = found.items()
    return name, mark


def _unskippable(function: str, mark: Mark) -> JetrunnerError:
    if mark.state == "returning":
        return JetrunnerError(
            f"key {mark.key} of {function} is on its way back, and its head may be at work",
            hint="when that is given up once more, the key is parked again, and can be skipped: runner parked list",
        )
    return JetrunnerError(
        f"which message key {mark.key} of {function} waits behind is not known any more",
        hint=f"runner parked retry {mark.key} runs what waits",
    )
