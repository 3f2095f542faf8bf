"""Parked keys on the command line: which there are, and bringing one back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import click

from runner.cli import printed
from runner.cli.table import table
from runner.cli.whereabouts import Found, Whereabouts
from runner.core import identity
from runner.core.origin import Origin
from runner.core.park import Mark, tokens
from runner.errors import JetrunnerError
from runner.jetstream.connection import Connection
from runner.jetstream.deadletters import DeadLetters, Selection
from runner.jetstream.keymarks import KeyMarks
from runner.jetstream.parked import Name, Parked

AT_ONCE = 64
"""Marks read at once."""


async def marks(connection: Connection, project: str, function: str = "", key: str = "") -> dict[Name, Mark]:
    """The keys that are parked, or on their way back, by function and key."""
    bucket = KeyMarks(connection, project)
    found: dict[Name, Mark] = {}
    names = sorted(await bucket.names(function or "*", key))
    for begin in range(0, len(names), AT_ONCE):
        part = names[begin : begin + AT_ONCE]
        entries = await asyncio.gather(*(bucket.mark(*name) for name in part))
        for name, entry in zip(part, entries, strict=True):
            if entry is not None and entry.mark.diverts:
                found[name[0], entry.mark.key] = entry.mark
    return found


async def documents(
    connection: Connection, project: str, function: str = "", key: str = ""
) -> list[dict[str, Any]]:
    """The parked keys as data, with what each has."""
    found = await marks(connection, project, function, key)
    counts = await Parked(connection, project).counts(function or "*", key) if found else {}
    letters: Counter[Name] = Counter()
    for name in {function for function, _ in found}:
        keys = {each: mark for each, mark in found.items() if each[0] == name}
        behind = {_place(mark.given_up): each for each, mark in keys.items() if mark.given_up}
        coming = {letter.sequence: each for each, mark in keys.items() for letter in mark.letters}
        async for stored in DeadLetters(connection).browse(Selection(project=project, function=name)):
            letter = stored.letter
            each = coming.get(letter.sequence) or behind.get(_place(letter.origin))
            if each is not None:
                letters[each] += 1
    return [
        {
            "function": name[0],
            "key": name[1],
            "state": mark.state,
            "since": datetime.fromtimestamp(mark.since, UTC).isoformat(timespec="milliseconds"),
            "dead_letters": letters[name],
            "parked": counts.get((name[0], identity.key_token(name[1])), 0),
        }
        for name, mark in found.items()
    ]


def _place(origin: Origin) -> tuple[str, int, int]:
    return origin.stream, origin.sequence, origin.timestamp_ns


def show(found: list[dict[str, Any]], output: str) -> None:
    """Print them."""
    if output == "json":
        click.echo(printed.data(found))
        return
    rows = [
        [
            each["function"],
            each["key"],
            each["state"],
            datetime.fromisoformat(each["since"]).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            f"{each['dead_letters']:,}",
            f"{each['parked']:,}",
        ]
        for each in found
    ]
    for line in table(["FUNCTION", "KEY", "STATE", "SINCE", ">DEAD LETTERS", ">PARKED"], rows):
        click.echo(line)
    if not found:
        click.echo("no parked keys", err=True)


async def bring_back(
    connection: Connection, whereabouts: Whereabouts, project: str, function: str, key: str
) -> tuple[list[dict[str, Any]], list[JetrunnerError]]:
    """Tell whoever owns the key to bring it back: what goes back, and why something does not."""
    bucket = KeyMarks(connection, project)
    told: list[dict[str, Any]] = []
    refused: list[JetrunnerError] = []
    for (name, _), mark in (await marks(connection, project, function, key)).items():
        why = _refusal(await whereabouts.find(name, mark.positions), name, mark)
        if why is not None:
            refused.append(why)
            continue
        found = await documents(connection, project, name, key)
        if await bucket.bring_back(name, key, time.time()) is not None:
            told.extend(found)
    return told, refused


def _refusal(found: Found, function: str, mark: Mark) -> JetrunnerError | None:
    """Why nobody would bring a key back: the function is gone, or reads its keys elsewhere."""
    if not found.somewhere:
        return JetrunnerError(
            f"key {mark.key} is parked in {function}, which neither this project nor a running instance has",
            hint=f'@consume(..., name="{function}") gives the function its old name back, and then the key comes back',
        )
    if (
        not found.positions or mark.positions in found.positions
    ):  # without order, all of it is sent back by name
        return None
    return JetrunnerError(
        f"key {mark.key} of {function} is kept back by {tokens(mark.positions)} of its subject, "
        f"and ordered_by= is {tokens(found.positions[0])} now",
        hint="run it with the subject and the ordered_by= of before, and bring the key back then",
    )
