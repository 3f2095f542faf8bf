"""Lists parked keys for commands, and brings one back."""

from __future__ import annotations

import time
from typing import Any

import click

from runner.cli import printed, table, times
from runner.cli.selection import document
from runner.cli.whereabouts import FoundFunction, Whereabouts
from runner.core import identity
from runner.core.deadletter import DeadLetter
from runner.core.park import Mark, tokens
from runner.core.redaction import Rules
from runner.errors import JetrunnerError
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.deadletters import DeadLetters
from runner.jetstream.keymarks import KeyMarks
from runner.jetstream.parked import Name, Parked
from runner.jetstream.parkedheads import head_of, letters_of


async def marks(connection: Connection, project: str, function: str = "", key: str = "") -> dict[Name, Mark]:
    """The marks of keys that are parked or on their way back, by function and key."""
    bucket = KeyMarks(connection, project)
    found: dict[Name, Mark] = {}
    names = sorted(await bucket.names(function or "*", key))
    entries = await map_concurrently(lambda name: bucket.mark(*name), names)
    for name, entry in zip(names, entries, strict=True):
        if entry is not None and entry.mark.diverts:
            found[name[0], entry.mark.key] = entry.mark
    return found


async def documents(
    connection: Connection, rules: Rules, project: str, function: str = "", key: str = ""
) -> list[dict[str, Any]]:
    """The parked keys as data, with their dead letters, parked messages and heads."""
    found = await marks(connection, project, function, key)
    counts = await Parked(connection, project).counts(function or "*", key) if found else {}
    letters = await letters_of(DeadLetters(connection), project, found)
    return [
        {
            "function": name[0],
            "key": name[1],
            "state": mark.state,
            "since": times.stamp(mark.since),
            "dead_letters": len(letters.get(name, [])),
            "parked": counts.get((name[0], identity.key_token(name[1])), 0),
            "head": _head(mark, letters.get(name, []), rules),
        }
        for name, mark in found.items()
    ]


def _head(mark: Mark, letters: list[DeadLetter], rules: Rules) -> dict[str, Any] | None:
    """The message that the key waits behind, and its dead letter if that still exists; None if the message is not known."""
    if mark.given_up is None:
        return None
    place = identity.message_id(mark.given_up.stream, mark.given_up.sequence)
    letter = head_of(mark, letters)
    return {"message_id": place, "dead_letter": document(letter, rules) if letter is not None else None}


def show(found: list[dict[str, Any]], output: str) -> None:
    """Print parked keys."""
    if output == "json":
        click.echo(printed.data(found))
        return
    rows = [
        [
            each["function"],
            each["key"],
            each["state"],
            times.seconds(each["since"]),
            f"{each['dead_letters']:,}",
            f"{each['parked']:,}",
            *_head_cells(each["head"]),
        ]
        for each in found
    ]
    table.show(
        ["FUNCTION", "KEY", "STATE", "SINCE", ">DEAD LETTERS", ">PARKED", "HEAD", "~ERROR"], rows, lead=2
    )
    if not found:
        click.echo("no parked keys", err=True)


def _head_cells(head: dict[str, Any] | None) -> list[str]:
    if head is None:
        return ["-", ""]
    letter = head["dead_letter"]
    if letter is None:
        return [head["message_id"], "its dead letter is gone"]
    place = f"{head['message_id']} (dead letter {letter['sequence']})"
    return [place, f"{letter['reason']}: {letter['error']}: {letter['message']}"]


async def bring_back(
    connection: Connection, rules: Rules, whereabouts: Whereabouts, project: str, function: str, key: str
) -> tuple[list[dict[str, Any]], list[JetrunnerError]]:
    """Have the key's owner bring it back, in each function that has parked it; gives the keys that come back, and errors for others."""
    bucket = KeyMarks(connection, project)
    told: list[dict[str, Any]] = []
    refused: list[JetrunnerError] = []
    for (name, _), mark in (await marks(connection, project, function, key)).items():
        why = refusal(await whereabouts.find(name, mark.positions), name, mark)
        if why is not None:
            refused.append(why)
            continue
        found = await documents(connection, rules, project, name, key)
        if await bucket.bring_back(name, key, time.time()) is not None:
            told.extend(found)
    return told, refused


def refusal(found: FoundFunction, function: str, mark: Mark) -> JetrunnerError | None:
    """Why nobody would bring a key back: the function is gone, or makes its keys of other tokens now; None if somebody would."""
    if not found.somewhere:
        return JetrunnerError(
            f"key {mark.key} is parked in {function}, which neither this project nor a running instance has",
            hint=f'@consume(..., name="{function}") gives the function its old name back, and then the key comes '
            f"back; runner function forget {function} removes all that is left of it",
        )
    if (
        not found.positions or mark.positions in found.positions
    ):  # the function keeps no order now: its instances send all back by the function's name
        return None
    return JetrunnerError(
        f"key {mark.key} of {function} is kept back by {tokens(mark.positions)} of its subject, "
        f"and ordered_by= is {tokens(found.positions[0])} now",
        hint="run it with the subject and the ordered_by= of before, and bring the key back then",
    )
