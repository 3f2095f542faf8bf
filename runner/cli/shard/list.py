"""`runner shard list`: shows the shards of ordered functions."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from runner.cli import failure, loop, options, printed, times
from runner.cli.functions import called, names, ordered_functions, removal
from runner.cli.selection import require_project
from runner.cli.session import session
from runner.cli.table import show
from runner.cluster.claims import read as read_claim
from runner.cluster.member import Member, read_member
from runner.core import identity, quantity
from runner.core.claim import UNOWNED, Claim
from runner.core.generation import OpenGeneration
from runner.errors import UsageError
from runner.jetstream import reshard, tolerant
from runner.jetstream.backlog import Backlog
from runner.jetstream.connection import Connection
from runner.jetstream.inventory import PATIENCE_SECONDS, stream_info
from runner.jetstream.kv import KV, Entry
from runner.jetstream.reshard import Lag
from runner.jetstream.server import check_server

HEADS = ["FUNCTION", "STREAM", ">GENERATION", ">SHARD", "OWNER", ">EPOCH", ">LAG", ">PENDING", "SINCE"]


@click.command("list", epilog="Example: runner shard list charge --output json")
@click.argument("function", required=False)
@options.output_option
@options.connected
def list_command(function: str | None, output: str) -> None:
    """Show the shards of the project's ordered functions, or of one.

    LAG counts messages that wait in the stream, PENDING those delivered and not settled. EPOCH counts the owners. SINCE is how long
    the present owner has the shard. Shards of an older generation are listed until they are drained, those of a newer one once
    messages wait there.
    """
    place = options.place()
    project = require_project(place.settings.name)
    code = ordered_functions(place.root, project)
    known = names(code)
    chosen = called(code, function) if function is not None else None

    async def main() -> list[dict[str, Any]]:
        async with session(place.settings) as connection:
            await check_server(connection)
            return await read(connection, project, chosen, known)

    found = loop.run(main)
    if function is not None and not found:
        raise UsageError(
            f"{function} has no shards",
            hint="a function with ordered_by= has, once it has run; runner function list",
        )
    if output == "json":
        click.echo(printed.data({"project": project, "shards": found}))
        return
    show(HEADS, [_row(shard) for shard in found])
    for name in sorted({shard["function"] for shard in found if shard["gone"]}):
        failure.advise(removal(name))
    if not found:
        click.echo(f"no function of {project} that keeps order has run yet: runner run", err=True)


async def read(
    connection: Connection, project: str, function: str | None, functions: Collection[str] | None
) -> list[dict[str, Any]]:
    """Every shard as plain values, by function, generation and number.

    `functions` are the ordered functions of the project's code; None if its code is not known.
    """
    kv = KV(connection)
    kept = await kv.found([f"generation.{project}.{function or '*'}"])
    standing = await kv.found([f"member.{project}.*"])
    open_generations = {key.rpartition(".")[2]: reshard.parse(entry.value) for key, entry in kept.items()}
    members = list(_members(standing))
    living = {member.instance for member in members}
    running = {each for member in members for each in member.functions}
    backlog = Backlog(connection)
    found: list[dict[str, Any]] = []
    for name, current in sorted(open_generations.items()):
        if current is None:
            continue
        info = await stream_info(connection, current.stream)
        if info is None:
            continue  # the stream is gone with all its messages
        durable = identity.durable(project, name)
        known = (await reshard.lags(connection, current.stream, durable, patience=PATIENCE_SECONDS)).get(
            durable, []
        )
        gone = functions is not None and name not in functions and name not in running
        if gone and not known:
            continue  # its durables were deleted
        claims = {
            key: read_claim(entry.value, key) or UNOWNED
            for key, entry in (await kv.found([f"claim.{project}.{name}.{current.generation}.*"])).items()
        }
        found += [
            _shard(
                name,
                current,
                lag,
                claims.get(f"claim.{project}.{name}.{lag.generation}.{lag.number}", UNOWNED),
                living,
            )
            | {"gone": gone}
            for lag in await backlog.lags(current, info, known)
        ]
    return found


def _members(standing: Mapping[str, Entry]) -> Iterator[Member]:
    for key, entry in standing.items():
        member = tolerant.read(read_member, entry.value, key)
        if member is not None and member.state == "alive":
            yield member


def _shard(
    function: str, current: OpenGeneration, lag: Lag, claim: Claim, living: set[str]
) -> dict[str, Any]:
    owned = claim.owner != ""
    return {
        "function": function,
        "stream": current.stream,
        "generation": lag.generation,
        "shard": lag.number,
        "state": _state(lag.generation, current.generation),
        "owner": claim.owner or None,
        "alive": claim.owner in living,
        "epoch": claim.epoch,
        "lag": lag.pending,
        "pending": lag.unsettled,
        "since": times.stamp(claim.since) if owned else None,
    }


def _state(generation: int, opened: int) -> str:
    if generation == opened:
        return "open"
    return "next" if generation > opened else "drained"


def _row(shard: dict[str, Any]) -> list[str]:
    owner = "(not open yet)" if shard["state"] == "next" else "-"
    if shard["owner"]:
        owner = shard["owner"] if shard["alive"] else f"{shard['owner']} (gone)"
    since = "-"
    if shard["since"]:
        age = time.time() - datetime.fromisoformat(shard["since"]).timestamp()
        since = quantity.format_duration(max(0, round(age)))
    return [
        f"{shard['function']} (no function of this project)" if shard["gone"] else shard["function"],
        shard["stream"],
        str(shard["generation"]),
        str(shard["shard"]),
        owner,
        str(shard["epoch"]),
        f"{shard['lag']:,}",
        f"{shard['pending']:,}",
        since,
    ]
