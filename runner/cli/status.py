"""`runner status`: shows what the project's functions have done, and what waits for them."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from runner.cli import askedfunctions, backlog, failure, functions, hour, loop, options, printed, times
from runner.cli.answering import answering
from runner.cli.measured import measured, takeovers
from runner.cli.selection import require_project
from runner.cli.session import session
from runner.cli.table import counted, show
from runner.core import shown
from runner.core.minutes import Minute
from runner.core.objective import Objective
from runner.core.quantity import format_duration
from runner.jetstream import openevents, schedules
from runner.jetstream.connection import Connection
from runner.jetstream.deadletters import DeadLetters
from runner.jetstream.inventory import count
from runner.jetstream.ownstreams import AGAIN
from runner.jetstream.parked import Parked
from runner.jetstream.server import check_server
from runner.pipeline import relay

HEADS = [
    "FUNCTION",
    "INSTANCE",
    ">PENDING",
    ">IN FLIGHT",
    ">RETRYING",
    ">FREE",
    ">RATE",
    ">P50",
    ">P99",
    ">FAILURES",
    ">DEAD",
    ">PARKED",
    ">AVAILABLE",
]


@click.command("status", epilog="Example: runner status --output json")
@click.option(
    "--watch",
    is_flag=True,
    help="Show it again each second, until Ctrl-C; with --output json, one document a line.",
)
@options.output_option
@options.connected
def status_command(watch: bool, output: str) -> None:
    """Show each function as a whole, and below it each instance that runs it.

    The first columns count messages as they are now. PENDING: waiting in the stream. IN FLIGHT: delivered and not settled; in an
    ordered function also those that wait there behind others of their key. RETRYING: waiting for their next attempt, after a
    failure or because their instance does not answer. FREE: slots in which a handler may start now, of all slots. DEAD: dead
    letters. PARKED: waiting behind a dead letter of their key. RATE: messages that ended a second, over 10 s. The next columns
    count since the instances started. P50 and P99: time in the handler alone (the milliseconds of `runner dev` and traces include
    storing the outputs). FAILURES: attempts that did not succeed. AVAILABLE: the share that succeeded. For a function that answers
    requests, PENDING counts requests that wait in its instances, FAILURES those answered with an error, and AVAILABLE leaves out
    errors of the asker.

    Another table shows the last hour, over all instances, those that have ended included. WAIT: time from the publish to the
    start of the first attempt. WORK: time in the handler. AVAILABLE: share of the settled messages that succeeded; the others are
    dead letters. LAG: age of the oldest message not yet delivered. For functions that answer requests, WAIT is the time from the
    arrival of a request to the start of its handler. REFUSED counts requests whose handler has not begun, because too many waited,
    their deadline had passed, or the instance ended. AVAILABLE leaves out errors of the asker. With the setting `objective`, BUDGET
    is the share of the error budget that is left.

    A further table shows the instances that functions ask (`ctx.request`), as the askers know them. STATE: `healthy`, `resting` (it
    was overloaded), `ejected` (left out for a while, and why) or `trial` (single requests test it). OUTSTANDING: requests that it
    has not answered. LATENCY and SUCCESS: of about the last 50 requests.

    Below the tables: when functions with a schedule fire next; split events that wait for parts, and since when; shards of an
    ordered function that could go on and have not for 5 s, with the reason; durables that somebody has paused; delayed messages
    that wait for their time (`delay=`, `at=`), or that their stream does not take; functions that are gone from the code and have
    left something on the server.
    """
    place = options.place()
    project = require_project(place.settings.name)

    async def once(connection: Connection) -> None:
        found = await read(connection, project, place.root, place.settings.objective)
        if output == "json":
            click.echo(printed.data(found, indent=None if watch else 2))
        else:
            if watch and sys.stdout.isatty():
                click.clear()
            _show(found, project, place.settings.objective)
            if watch and not sys.stdout.isatty():
                click.echo()

    async def main() -> None:
        async with session(place.settings) as connection:
            await check_server(connection)
            await once(connection)
            while watch:  # each waits a second for the answers of the instances
                await once(connection)

    try:
        loop.run(main)
    except KeyboardInterrupt:
        if not watch:
            raise


def _show(found: dict[str, Any], project: str, objective: Objective) -> None:
    show(HEADS, [row for function in found["functions"] for row in _rows(function)], lead=2)
    for answers, first in ((False, hour.MESSAGES), (True, hour.REQUESTS)):
        some = [function for function in found["functions"] if function["answers"] is answers]
        if rows := list(hour.rows(some, objective)):
            click.echo()
            show(hour.heads(objective, first), rows)
    if found["asked"]:
        click.echo()
        show(askedfunctions.HEADS, list(askedfunctions.rows(found["asked"], project)), lead=2)
    for line in _beside(found):
        click.echo(line, err=True)
    for each in found["functions"]:
        if each["gone"]:
            failure.advise(functions.removal(each["function"]))


def _beside(found: dict[str, Any]) -> Iterator[str]:
    """The lines that are printed below the tables."""
    for function in found["functions"]:
        for line in function["standing"]:
            yield f"{_name(function)}: {shown.line(line)}"
        if unkept := function["errors_unkept"]:
            told = counted(unkept, "error")
            yield f"{_name(function)}: {told} of attempts to be retried not kept: over 100 a second, or not stored"
    for function in found["functions"]:
        if function["gone"]:
            yield from _left(function)
    for name, following in found["next_firings"].items():
        yield f"{shown.line(name)} fires next at {following or 'a time that is not known'}"
    for name, each in found["gathering"].items():
        events = "1 event waits" if each["events"] == 1 else f"{each['events']:,} events wait"
        yield f"{shown.line(name)}: {events} for parts, the oldest for {format_duration(int(each['oldest_age']))}"
    if delayed := found["delayed_publishes"]:
        yield f"published with a delay, and not due yet: {counted(delayed, 'message')}"
    if due := found["due_publishes"]:
        yield f"due, but not published yet: {counted(due, 'message')}; the log of an instance says why"
    if found["untold"]:
        yield f"the server cannot tell of {shown.line(', '.join(found['untold']))} now"
    if not found["functions"]:
        yield f"no function of {found['project']} has run yet: runner run"
    elif not found["instances"]:
        yield "no instance runs"


async def read(connection: Connection, project: str, root: Path, objective: Objective) -> dict[str, Any]:
    """The whole status as plain values: seconds, counts, messages a second, shares from 0 to 1."""
    first = await backlog.ask(connection, project)
    second = await backlog.ask(connection, project) if first.moves else first
    snapshots, durables = second.snapshots, second.durables
    hours = await hour.read(connection, project, snapshots)
    dead = await DeadLetters(connection).counts(project)
    parked: Counter[str] = Counter()
    for (function, _), messages in (await Parked(connection, project).counts()).items():
        parked[function] += messages
    running = {name for each in snapshots for name in each["functions"]}
    names = sorted({*durables, *dead, *parked, *running})
    known = running if running.issuperset(names) else functions.names(functions.all_functions(root, project))
    now = time.time()
    return {
        "project": project,
        "objective": {"availability": objective.availability, "latency": objective.latency},
        "instances": [
            {"instance": each["instance"], "uptime": round(now - float(each["since"]), 3)}
            for each in snapshots
        ],
        "functions": [
            {
                **_function(
                    name, durables.get(name, {}), snapshots, min(first.retrying(name), second.retrying(name))
                ),
                "dead_letters": dead.get(name, 0),
                "parked": parked[name],
                "hour": hour.told(hours.get(name, Minute()), objective),
                "gone": known is not None and name not in {*known, *running},
            }
            for name in names
        ]
        + [
            {**function, "hour": hour.told(hours.get(function["function"], Minute()), objective)}
            for function in answering(
                snapshots, measured, {name for name, each in hours.items() if each.answers}
            )
        ],
        "asked": askedfunctions.asked(snapshots),
        "next_firings": await _next_firings(connection, project),
        "gathering": {
            name: {"events": each.events, "oldest_age": round(each.oldest, 3)}
            for name, each in (await openevents.waiting(connection, project)).items()
        },
        "delayed_publishes": await count(connection, AGAIN, f"$JETRUNNER.delayed.{project}.>"),
        "due_publishes": await relay.unpublished(connection, project),
        "untold": second.untold,
    }


async def _next_firings(connection: Connection, project: str) -> dict[str, str | None]:
    """When each function with a schedule fires next; None if that is not known."""
    now = datetime.fromtimestamp(connection.clock.now(), UTC)
    found: dict[str, str | None] = {}
    for function in await schedules.functions_of(connection, project):
        there = await schedules.standing(connection, project, function)
        following = await schedules.next_firing(connection, project, there, now)
        found[function] = times.stamp(following.timestamp()) if following is not None else None
    return found


def _function(
    name: str, durable: dict[str, Any], snapshots: Sequence[dict[str, Any]], retrying: int
) -> dict[str, Any]:
    running = [each for each in snapshots if name in each["functions"]]
    parts = [each["functions"][name] for each in running]
    instances = [
        {"instance": each["instance"], **measured([part])} for each, part in zip(running, parts, strict=True)
    ]
    again = durable.get("again", {})
    return {
        "function": name,
        "label": next((label for part in parts if (label := part.get("label"))), name),
        "stream": durable.get("stream"),
        "durable": durable.get("durable"),
        "answers": False,
        "ordered": durable.get("ordered"),
        "pending": durable.get("pending", 0) + again.get("pending", 0),
        **measured(parts),
        # By the server's count, which includes instances that do not answer.
        "in_flight": backlog.in_flight(durable) - retrying,
        "retrying": retrying,
        "lag": max((part.get("lag", 0.0) for part in parts), default=0.0),
        "throttled": sum(part.get("throttled", False) for part in parts),
        "takeovers": takeovers(parts),
        "parked_keys": max((part.get("parked_keys", 0) for part in parts), default=0),
        "standing": sorted({line for part in parts for line in part.get("standing", [])}),
        "errors_unkept": sum(part.get("unkept", 0) for part in parts),
        "instances": instances,
    }


def _left(function: dict[str, Any]) -> Iterator[str]:
    """The line for a function that is not in the code any more."""
    waits = function["pending"] + function["in_flight"] + function["retrying"]
    yield (
        f"{function['function']} is not a function of this project, and no instance runs it: {waits:,} to run, "
        f"{function['parked']:,} parked, {counted(function['dead_letters'], 'dead letter')}"
    )


def _name(function: dict[str, Any]) -> str:
    """The function's name; `ship (pack)` if it is ship in the code of its instances, and pack in NATS."""
    name, label = function["function"], function["label"]
    return str(name) if name == label else f"{label} ({name})"


def _rows(function: dict[str, Any]) -> list[list[str]]:
    waits = [f"{function[each]:,}" for each in ("pending", "in_flight", "retrying")]
    count = len(function["instances"])
    rows = [
        [
            _name(function),
            counted(count, "instance"),
            *waits,
            _free(function),
            *_numbers(function, f"{function['dead_letters']:,}", f"{function['parked']:,}"),
        ]
    ]
    if count > 1:
        rows += [
            ["", each["instance"], "", f"{each['in_flight']:,}", "", _free(each), *_numbers(each, "", "")]
            for each in function["instances"]
        ]
    return rows


def _free(part: dict[str, Any]) -> str:
    return f"{part['slots_free']:,}/{part['slots']:,}" if part["slots"] else "-"


def _numbers(part: dict[str, Any], *stored: str) -> list[str]:
    return [
        f"{part['rate']:,.1f}/s",
        hour.seconds(part["p50"]),
        hour.seconds(part["p99"]),
        f"{part['failures']:,}",
        *stored,
        hour.percent(part["availability"]),
    ]
