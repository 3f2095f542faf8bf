"""`runner status`: what the project's functions have done, and what waits for them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click
from msgspec import Struct

from runner.cli import loop, options, printed
from runner.cli.selection import require_project
from runner.cli.table import counted, table
from runner.core import identity, sharding, shown
from runner.core.generation import stored_subject
from runner.core.histogram import Histogram
from runner.core.plan import function_of, generation_of
from runner.core.sharding import Sharding
from runner.engine.snapshots import collect
from runner.errors import ServerError
from runner.jetstream.connection import Connection, connect
from runner.jetstream.consumer import NOT_FOUND
from runner.jetstream.deadletters import DeadLetters
from runner.jetstream.inventory import count
from runner.jetstream.listing import listed
from runner.jetstream.ownstreams import AGAIN
from runner.jetstream.parked import Parked
from runner.jetstream.reshard import Openings
from runner.jetstream.server import check_server

HEADS = [
    "FUNCTION",
    "INSTANCE",
    ">PENDING",
    ">IN FLIGHT",
    ">RATE",
    ">P50",
    ">P99",
    ">FAILURES",
    ">DEAD",
    ">PARKED",
    ">AVAILABLE",
]


class Waiting(Struct, frozen=True):
    """What the server says of one durable of a function."""

    stream: str
    durable: str
    """Of a shard: the name that all the function's shards have in common."""
    generation: int
    """Of a shard; -1 for a durable that is no shard's."""
    pending: int
    in_flight: int

    @property
    def is_shard(self) -> bool:
        """Whether it is the durable of one shard."""
        return self.generation >= 0


@click.command("status", epilog="Example: runner status --output json")
@options.output_option
@options.connected
def status_command(output: str) -> None:
    """Show each function as a whole, and below it each instance that runs it.

    As they are now: PENDING waits in the stream, IN FLIGHT is delivered and not settled (of an ordered function also what
    waits there behind others of its key), DEAD are the dead letters that are there, PARKED waits behind a dead letter of
    its key. RATE is messages that ended a second, over ten seconds. Since the instances started: P50 and P99 are the
    time in the handler alone (the milliseconds that `runner dev` and traces show include storing its outputs), FAILURES
    are attempts that did not succeed, AVAILABLE is the share that did.

    Shards of an ordered function that have not gone on for 5 s, though they could, are told after the table with the reason.
    """
    place = options.place()
    project = require_project(place.settings.name)

    async def main() -> dict[str, Any]:
        async with connect(place.settings) as connection:
            await check_server(connection)
            return await read(connection, project)

    found = loop.run(main)
    if output == "json":
        click.echo(printed.data(found))
        return
    for line in table(HEADS, [row for function in found["functions"] for row in _rows(function)]):
        click.echo(line)
    for function in found["functions"]:
        for line in function["standing"]:
            click.echo(f"{function['function']}: {shown.line(line)}", err=True)
    if found["untold"]:
        click.echo(f"the server cannot tell of {shown.line(', '.join(found['untold']))} now", err=True)
    if not found["functions"]:
        click.echo(f"no function of {project} has run yet: runner run", err=True)
    elif not found["instances"]:
        click.echo("no instance runs", err=True)


async def read(connection: Connection, project: str) -> dict[str, Any]:
    """Everything, as plain values: seconds, counts, messages a second, shares from 0 to 1."""
    snapshots = await collect(connection, project)
    dead = await DeadLetters(connection).counts(project)
    parked: Counter[str] = Counter()
    for (function, _), messages in (await Parked(connection, project).counts()).items():
        parked[function] += messages
    untold: list[str] = []
    durables = await _durables(connection, project, snapshots, untold)
    names = sorted({*durables, *dead, *parked, *(name for each in snapshots for name in each["functions"])})
    now = time.time()
    return {
        "project": project,
        "instances": [
            {"instance": each["instance"], "uptime": round(now - float(each["since"]), 3)}
            for each in snapshots
        ],
        "functions": [
            _function(name, durables.get(name, {}), dead.get(name, 0), parked[name], snapshots)
            for name in names
        ],
        "untold": untold,
    }


async def _durables(
    connection: Connection, project: str, snapshots: Sequence[dict[str, Any]], untold: list[str]
) -> dict[str, dict[str, Any]]:
    """What the server says of each function's durables, and of what was sent back; `untold` gets what it cannot tell of."""
    told = {function: each for snapshot in snapshots for function, each in snapshot["functions"].items()}
    named = {(each["stream"], each["durable"]): function for function, each in told.items()}
    again: dict[str, dict[str, int]] = {}
    found: dict[str, list[Waiting]] = {}
    listing = await listed(connection, "STREAM.LIST", "streams")
    untold.extend(listing.lacking)
    for stream in listing.told:
        consumers = await listed(connection, f"CONSUMER.LIST.{stream}", "consumers")
        untold.extend(f"{stream} > {name}" for name in consumers.lacking)
        for durable, info in consumers.told.items():
            function = named.get((stream, durable)) or function_of(durable, project)
            if function is None or not info["config"].get("durable_name"):
                continue
            whole = identity.durable(project, function)
            waiting = {"pending": int(info["num_pending"]), "in_flight": int(info["num_ack_pending"])}
            if stream == AGAIN:
                if durable == whole:
                    again[function] = waiting
                continue
            generation = -1 if (stream, durable) in named else generation_of(durable)
            found.setdefault(function, []).append(
                Waiting(stream, durable if (stream, durable) in named else whole, generation, **waiting)
            )
    for function, parts in found.items():
        if any(each.is_shard for each in parts):
            parts.extend(await _unopened(connection, project, function, listing.told, parts))
    facts = {function: _summed(_current(parts, told.get(function))) for function, parts in found.items()}
    for function, waiting in again.items():
        facts.setdefault(function, {})["again"] = waiting
    return facts


async def _unopened(
    connection: Connection,
    project: str,
    function: str,
    streams: Mapping[str, dict[str, Any]],
    parts: Sequence[Waiting],
) -> list[Waiting]:
    """What waits in generations of shards that have no durables yet: an older one is not drained."""
    try:
        opening, _ = await Openings(connection, project).read(function)
    except ServerError as error:
        if error.code not in NOT_FOUND:
            raise
        return []  # the bucket is gone
    if opening is None or (stream := streams.get(opening.stream)) is None:
        return []
    newest = (sharding.read(stream["config"]) or Sharding()).generation
    standing = {each.generation for each in parts}
    return [
        Waiting(
            opening.stream,
            identity.durable(project, function),
            generation,
            await count(connection, opening.stream, stored_subject(opening.subject, generation)),
            0,
        )
        for generation in range(opening.generation + 1, newest + 1)
        if generation not in standing
    ]


def _current(parts: Sequence[Waiting], told: dict[str, Any] | None) -> Sequence[Waiting]:
    """Without what is left of another stream, or of a time when the function kept order, or did not."""
    if told is not None and "ordered" in told:
        return [each for each in parts if (each.stream, each.is_shard) == (told["stream"], told["ordered"])]
    return [each for each in parts if each.is_shard] or parts


def _summed(parts: Sequence[Waiting]) -> dict[str, Any]:
    """A function's durables as one: an ordered function has one for each shard."""
    if not parts:
        return {}
    return {
        "stream": parts[-1].stream,
        "durable": parts[-1].durable,
        "pending": sum(each.pending for each in parts),
        "in_flight": sum(each.in_flight for each in parts),
    }


def _function(
    name: str, durable: dict[str, Any], dead: int, parked: int, snapshots: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    instances = [
        {"instance": each["instance"], **_measured([each["functions"][name]])}
        for each in snapshots
        if name in each["functions"]
    ]
    whole = _measured([each["functions"][name] for each in snapshots if name in each["functions"]])
    again = durable.get("again", {})
    return {
        "function": name,
        "stream": durable.get("stream"),
        "durable": durable.get("durable"),
        "pending": durable.get("pending", 0) + again.get("pending", 0),
        "dead_letters": dead,
        "parked": parked,
        **whole,
        # The server's count, which knows of instances that do not answer, too.
        "in_flight": durable.get("in_flight", 0) + again.get("in_flight", 0),
        "standing": sorted(
            {line for each in snapshots for line in each["functions"].get(name, {}).get("standing", [])}
        ),
        "instances": instances,
    }


def _measured(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several instances' numbers as one."""
    durations = Histogram()
    for part in parts:
        try:
            durations.merge(Histogram.restore(part["duration"]))
        except ValueError:
            continue  # an instance of another version
    acked = sum(part["acked"] for part in parts)
    failed = sum(part["failed"] for part in parts)
    return {
        "in_flight": sum(part["in_flight"] for part in parts),
        "handled": sum(part["handled"] for part in parts),
        "acked": acked,
        "failures": failed,
        "retried": sum(part["retried"] for part in parts),
        "rate": round(sum(part["rate"] for part in parts), 3),
        "p50": durations.percentile(50),
        "p99": durations.percentile(99),
        "availability": round(acked / (acked + failed), 6) if acked + failed else None,
    }


def _rows(function: dict[str, Any]) -> list[list[str]]:
    waiting = [f"{function['pending']:,}", f"{function['in_flight']:,}"]
    count = len(function["instances"])
    rows = [
        [
            function["function"],
            counted(count, "instance"),
            *waiting,
            *_numbers(function, f"{function['dead_letters']:,}", f"{function['parked']:,}"),
        ]
    ]
    if count > 1:
        rows += [
            ["", each["instance"], "", f"{each['in_flight']:,}", *_numbers(each, "", "")]
            for each in function["instances"]
        ]
    return rows


def _numbers(part: dict[str, Any], *stored: str) -> list[str]:
    share = part["availability"]
    return [
        f"{part['rate']:,.1f}/s",
        _time(part["p50"]),
        _time(part["p99"]),
        f"{part['failures']:,}",
        *stored,
        "-" if share is None else f"{share:.2%}",
    ]


def _time(seconds: float) -> str:
    if not seconds:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
