"""What the server has: streams, their consumers, and what they hold."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from runner.core import fence, sharding
from runner.core.streams.config import DeclaredStream, wanted
from runner.core.streams.danger import Holdings, Reader
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
    """The configuration of every stream of the account, by name; so many seconds are waited for a whole list."""

    async def whole() -> dict[str, dict[str, Any]]:
        return (await listed(connection, "STREAM.LIST", "streams")).whole()

    found = await retry_until(whole, patience, "the list of streams")
    return {name: info["config"] for name, info in found.items()}


async def consumers_on(
    connection: Connection, stream: str, patience: float = PATIENCE_SECONDS
) -> list[dict[str, Any]]:
    """The server's info on every durable consumer of a stream; so many seconds are waited for a whole list."""

    async def whole() -> dict[str, dict[str, Any]]:
        return (await listed(connection, f"CONSUMER.LIST.{stream}", "consumers")).whole()

    found = await retry_until(whole, patience, f"the list of consumers of {stream}")
    return [info for info in found.values() if info["config"].get("durable_name")]


async def stream_info(connection: Connection, name: str) -> dict[str, Any] | None:
    """The server's info on a stream; None when there is no such stream."""
    try:
        return await connection.api(f"STREAM.INFO.{name}")
    except ServerError as error:
        if error.code == codes.STREAM_NOT_FOUND:
            return None
        raise


async def holdings(
    connection: Connection, stream: DeclaredStream, info: Mapping[str, Any], project: str = ""
) -> Holdings:
    """What a declared change could hurt. Only what could matter is read: counting subjects is dear to the server.

    Consumers are ours when they are durables of a function of `project`.
    """
    state, config = info["state"], info["config"]
    sharded = sharding.read(config) is not None
    readers = [
        Reader(
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
            ]  # stored under other subjects: which ones came from here is not known
            continue
        for stored in (gone, f"shard.*.*.{gone}") if sharded else (gone,):
            async for subject, count in subjects(connection, stream.name, stored):
                original = sharding.original(subject) if sharded else subject
                if not any(matches(pattern, original) for pattern in stream.subjects):
                    uncaptured[original] = uncaptured.get(original, 0) + count
    return Holdings(
        messages=state["messages"],
        bytes=state["bytes"],
        oldest=_age(info) if state["messages"] else 0.0,
        most_per_subject=most,
        uncaptured=uncaptured,
        readers=tuple(readers),
    )


async def count(connection: Connection, stream: str, pattern: str) -> int:
    """How many messages a stream holds under the subjects that the pattern matches; dear where these are many."""
    return sum([number async for _, number in subjects(connection, stream, pattern)])


def published(filters: tuple[str, ...]) -> tuple[str, ...]:
    """Give filters on a sharded stream as filters on subjects as they are published."""
    return tuple(dict.fromkeys(re.sub(r"^shard\.(\d+|\*)\.(\d+|\*)\.", "", text) for text in filters))


def subjects_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what a consumer reads, as published; nothing where it has no filter and reads all."""
    return published(filters_of(config))


def _age(info: Mapping[str, Any]) -> float:
    """Seconds since the oldest message, both by the server's clock."""
    now = datetime.datetime.fromisoformat(info["ts"])
    return (now - datetime.datetime.fromisoformat(info["state"]["first_ts"])).total_seconds()
