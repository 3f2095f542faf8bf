"""`runner schedule list`: shows when functions fire next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from runner.bindings import Binding
from runner.cli import code, failure, loop, options, printed, times
from runner.cli.session import session
from runner.cli.table import show
from runner.core.streams.plan import SchedulePlan
from runner.jetstream import schedules
from runner.jetstream.connection import Connection
from runner.jetstream.server import check_server
from runner.streams.schedules import plan_schedules

HEADS = ["FUNCTION", "SCHEDULE", "OVERLAP", "NEXT", "STATE"]
STATES = {"create": "missing", "update": "differs", "same": "stands", "remove": "gone"}


@click.command("list", epilog="Example: runner schedule list --output json")
@options.output_option
@options.connected
def list_command(output: str) -> None:
    """Show the schedules of the project's functions, and of those that are gone.

    NEXT is when the server fires it next, in UTC. STATE compares the server with the code. The schedule may be the same, or differ
    or be missing (`runner apply` writes it), or its function is gone from the code (`runner apply` removes it).
    """
    place = options.project()
    project = code.load(place.root, place.settings.name or None)

    async def main() -> list[dict[str, Any]]:
        async with session(place.settings) as connection:
            await check_server(connection)
            return await read(connection, project.name, project.functions)

    found = loop.run(main)
    if output == "json":
        click.echo(printed.data({"project": project.name, "schedules": found}))
        return
    show(HEADS, [[each[head.lower()] or "-" for head in HEADS] for each in found])
    if any(each["state"] in ("missing", "differs", "gone") for each in found):
        failure.advise("`runner apply` makes the schedules what the code says")
    if not found:
        click.echo(f"no function of {project.name} has a schedule: decorate one with @cron", err=True)


async def read(connection: Connection, project: str, functions: Sequence[Binding]) -> list[dict[str, Any]]:
    """Every schedule as plain values, by function."""
    known = {each.function: each for each in functions}
    now = datetime.fromtimestamp(connection.clock.now(), UTC)
    plans = await plan_schedules(connection, project, functions)
    return [
        await _schedule(connection, project, plan, known.get(plan.function), now)
        for plan in sorted(plans, key=lambda each: each.function)
    ]


async def _schedule(
    connection: Connection, project: str, plan: SchedulePlan, binding: Binding | None, now: datetime
) -> dict[str, Any]:
    there = await schedules.standing(connection, project, plan.function)
    following = await schedules.next_firing(connection, project, there, now) if there.sequence else None
    return {
        "function": plan.function,
        "schedule": plan.text,
        "overlap": binding.overlap if binding is not None else None,
        "next": times.stamp(following.timestamp()) if following is not None else None,
        "state": STATES[plan.action],
    }
