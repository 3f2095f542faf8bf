"""Counts the messages that wait on the server for each function: in its durables, and among those sent back to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from runner.core import identity, sharding
from runner.core.generation import stored_subject
from runner.core.sharding import Sharding
from runner.core.streams.plan import function_of, generation_of
from runner.errors import ServerError
from runner.jetstream import codes
from runner.jetstream.connection import Connection
from runner.jetstream.inventory import count
from runner.jetstream.listing import listed
from runner.jetstream.ownstreams import AGAIN
from runner.jetstream.reshard import GenerationStore
from runner.runtime.snapshots import collect


class FunctionBacklogs(Struct, frozen=True):
    """What the instances and the server have said of all functions at one time."""

    snapshots: list[dict[str, Any]]
    durables: dict[str, dict[str, Any]]
    """What the server says of each function's durables, by function."""
    untold: list[str]
    """The streams and durables that the server could not tell of."""

    def retrying(self, function: str) -> int:
        """How many messages wait for their next attempt: delivered ones that no instance holds, and those that instances keep for it.

        If no instance with the function answers, the number is not known, and all delivered messages count as in flight.
        """
        parts = [each["functions"][function] for each in self.snapshots if function in each["functions"]]
        if not parts:
            return 0
        delivered = in_flight(self.durables.get(function, {}))
        held = sum(each["in_flight"] for each in parts)
        delayed = sum(each.get("delayed", 0) for each in parts)
        return int(min(delivered, max(0, delivered - held) + delayed))

    @property
    def moves(self) -> bool:
        """Whether messages may have come and gone between the answers of instances and server, so that one counts as waiting wrongly."""
        return any(
            part["rate"] and self.retrying(name)
            for each in self.snapshots
            for name, part in each["functions"].items()
        )


async def ask(connection: Connection, project: str) -> FunctionBacklogs:
    """Ask the instances, then the server."""
    snapshots = await collect(connection, project)
    untold: list[str] = []
    return FunctionBacklogs(snapshots, await durables(connection, project, snapshots, untold), untold)


def in_flight(durable: Mapping[str, Any]) -> int:
    """How many messages were delivered to a function and are not settled, by the server's count."""
    return int(durable.get("in_flight", 0)) + int(durable.get("again", {}).get("in_flight", 0))


class DurableBacklog(Struct, frozen=True):
    """What the server says of one durable of a function."""

    stream: str
    durable: str
    """The durable's name; for a shard the beginning that the names of all the function's shards share."""
    generation: int
    """The shard's generation; -1 for a durable that is not a shard's."""
    pending: int
    in_flight: int

    @property
    def is_shard(self) -> bool:
        """Whether it is the durable of one shard."""
        return self.generation >= 0


async def durables(
    connection: Connection, project: str, snapshots: Sequence[dict[str, Any]], untold: list[str]
) -> dict[str, dict[str, Any]]:
    """What the server says of each function's durables, and of the messages sent back to it, by function.

    The names of streams and durables that the server cannot tell of are added to `untold`.
    """
    told = {function: each for snapshot in snapshots for function, each in snapshot["functions"].items()}
    named = {(each["stream"], each["durable"]): function for function, each in told.items()}
    again: dict[str, dict[str, int]] = {}
    found: dict[str, list[DurableBacklog]] = {}
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
                DurableBacklog(
                    stream, durable if (stream, durable) in named else whole, generation, **waiting
                )
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
    parts: Sequence[DurableBacklog],
) -> list[DurableBacklog]:
    """The messages in generations of shards that have no durables yet, because an older generation is not drained."""
    try:
        current, _ = await GenerationStore(connection, project).read(function)
    except ServerError as error:
        if error.code not in codes.NO_CONSUMER:
            raise
        return []  # the bucket is gone
    if current is None or (stream := streams.get(current.stream)) is None:
        return []
    newest = (sharding.read(stream["config"]) or Sharding()).generation
    standing = {each.generation for each in parts}
    return [
        DurableBacklog(
            current.stream,
            identity.durable(project, function),
            generation,
            await count(connection, current.stream, stored_subject(current.subject, generation)),
            0,
        )
        for generation in range(current.generation + 1, newest + 1)
        if generation not in standing
    ]


def _current(parts: Sequence[DurableBacklog], told: dict[str, Any] | None) -> Sequence[DurableBacklog]:
    """The durables in use, without those left from another stream, or from before the function began or ceased to keep order."""
    if told is not None and "ordered" in told:
        return [each for each in parts if (each.stream, each.is_shard) == (told["stream"], told["ordered"])]
    return [each for each in parts if each.is_shard] or parts


def _summed(parts: Sequence[DurableBacklog]) -> dict[str, Any]:
    """The sums over all durables of a function; an ordered function has one for each shard."""
    if not parts:
        return {}
    return {
        "stream": parts[-1].stream,
        "durable": parts[-1].durable,
        "ordered": parts[-1].is_shard,
        "pending": sum(each.pending for each in parts),
        "in_flight": sum(each.in_flight for each in parts),
    }
