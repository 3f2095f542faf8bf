"""Parked keys on the command line: which there are, and bringing one back."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import click

from runner.cli import printed
from runner.cli.table import table
from runner.core import identity
from runner.core.origin import Origin
from runner.core.park import Mark
from runner.jetstream.connection import Connection
from runner.jetstream.deadletters import DeadLetters, Selection
from runner.jetstream.parked import Name, Parked


async def marks(connection: Connection, project: str, function: str = "", key: str = "") -> dict[Name, Mark]:
    """The keys that are parked, or on their way back, by function and key."""
    parked = Parked(connection, project)
    found: dict[Name, Mark] = {}
    for name in sorted(await parked.names(function or "*", key)):
        entry = await parked.mark(*name)
        if entry is not None and entry.mark.diverts:
            found[name] = entry.mark
    return found


async def documents(
    connection: Connection, project: str, function: str = "", key: str = ""
) -> list[dict[str, Any]]:
    """The parked keys as data, with what each has."""
    found = await marks(connection, project, function, key)
    counts = await Parked(connection, project).counts(function or "*", key) if found else {}
    letters: Counter[Name] = Counter()
    for name in {function for function, _ in found}:
        behind = {
            _place(mark.given_up): each for each, mark in found.items() if each[0] == name and mark.given_up
        }
        async for stored in DeadLetters(connection).browse(Selection(project=project, function=name)):
            if (waiting := behind.get(_place(stored.letter.origin))) is not None:
                letters[waiting] += 1
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


async def bring_back(connection: Connection, project: str, function: str, key: str) -> list[dict[str, Any]]:
    """Tell whoever owns the key to bring it back; what goes back, nothing when it is not parked."""
    parked = Parked(connection, project)
    return [
        each
        for each in await documents(connection, project, function, key)
        if await parked.bring_back(each["function"], key, time.time()) is not None
    ]
