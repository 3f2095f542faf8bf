"""The streams and consumers on the server, and their content."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from runner.core import fence, sharding
from runner.core.streams.config import DeclaredStream, wanted
from runner.core.streams.danger import StandingConsumer, StreamHoldings
from runner.core.streams.plan import function_of
from runner.core.subject import covers, matches
from runner.errors import ServerError
from runner.jetstream import codes
from runner.jetstream.connection import Connection
from runner.jetstream.consumer import filters_of
from runner.jetstream.listing import listed
from runner.jetstream.messages import subjects
from runner.jetstream.publisher import retry_until

PATIENCE_SECONDS = 20.0


async def real_streams(
    connection: Connection, patience: float = PATIENCE_SECONDS
) -> dict[str, dict[str, Any]]:
    """The configurations of all streams of the account, by name; waits `patience` seconds for a complete list."""

    async def whole() -> dict[str, dict[str, Any]]:
        return (await listed(connection, "STREAM.LIST", "streams")).whole()

    found = await retry_until(whole, patience, "the list of streams")
    return {name: info["config"] for name, info in found.items()}


async def consumers_on(
    connection: Connection, stream: str, patience: float = PATIENCE_SECONDS
) -> list[dict[str, Any]]:
    """The server's info on all durable consumers of a stream; waits `patience` seconds for a complete list."""

    async def whole() -> dict[str, dict[str, Any]]:
        return (await listed(connection, f"CONSUMER.LIST.{stream}", "consumers")).whole()

    found = await retry_until(whole, patience, f"the list of consumers of {stream}")
    return [info for info in found.values() if info["config"].get("durable_name")]


async def stream_info(connection: Connection, name: str) -> dict[str, Any] | None:
    """The server's info on a stream; None if there is no such stream."""
    try:
        return await connection.api(f"STREAM.INFO.{name}")
    except ServerError as error:
        if error.code == codes.STREAM_NOT_FOUND:
            return None
        raise


async def holdings(
    connection: Connection, stream: DeclaredStream, info: Mapping[str, Any], project: str = ""
) -> StreamHoldings:
    """Facts of a stream that a declared change could hurt. Only those that matter are read: counting subjects is expensive.

    Consumers are ours if they are durables of a function of `project`.
    """
    state, config = info["state"], info["config"]
    sharded = sharding.read(config) is not None
    readers = [
        StandingConsumer(
            consumer["name"],
            subjects_of(consumer["config"]) if sharded else filters_of(consumer["config"]),
            ours=bool(project) and function_of(consumer["name"], project) is not None,
            waiting=consumer["num_waiting"],
        )
        for consumer in await consumers_on(connection, stream.name)
    ]
    most = 0
    limit = wanted(stream, config).get("max_msgs_per_subject", -1)
    if 0 < limit != config.get("max_msgs_per_subject"):
        most = max([count async for _, count in subjects(connection, stream.name, ">")], default=0)
    uncaptured: dict[str, int] = {}
    for gone in config.get("subjects") or () if stream.subjects else ():
        if gone == fence.pattern(stream.name) or any(covers(subject, gone) for subject in stream.subjects):
            continue
        if config.get("subject_transform") and not sharded and state["messages"]:
            uncaptured[gone] = state[
                "messages"
            ]  # stored under other subjects, so it is not known which came from here
            continue
        for stored in (gone, f"shard.*.*.{gone}") if sharded else (gone,):
            async for subject, count in subjects(connection, stream.name, stored):
                original = sharding.original(subject) if sharded else subject
                if not any(matches(pattern, original) for pattern in stream.subjects):
                    uncaptured[original] = uncaptured.get(original, 0) + count
    return StreamHoldings(
        messages=state["messages"],
        bytes=state["bytes"],
        oldest=_age(info) if state["messages"] else 0.0,
        most_per_subject=most,
        uncaptured=uncaptured,
        readers=tuple(readers),
    )


async def count(connection: Connection, stream: str, pattern: str) -> int:
    """How many messages a stream holds under the matching subjects; expensive if these are many."""
    return sum([number async for _, number in subjects(connection, stream, pattern)])


def published(filters: tuple[str, ...]) -> tuple[str, ...]:
    """Turn filters on a sharded stream into filters on subjects as published."""
    return tuple(dict.fromkeys(re.sub(r"^shard\.(\d+|\*)\.(\d+|\*)\.", "", text) for text in filters))


def subjects_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The subjects that a consumer reads, as published; empty if it has no filter and reads all."""
    return published(filters_of(config))


def _age(info: Mapping[str, Any]) -> float:
    """The age of the oldest message in seconds, by the server's clock."""
    now = datetime.datetime.fromisoformat(info["ts"])
    return (now - datetime.datetime.fromisoformat(info["state"]["first_ts"])).total_seconds()
