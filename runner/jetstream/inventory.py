"""What the server has: streams, their consumers, and what they hold."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Mapping
from typing import Any

from runner.core.streamconfig import DeclaredStream, wanted
from runner.core.streamdanger import Holdings, Reader
from runner.core.subject import covers, matches
from runner.errors import ServerError
from runner.jetstream.connection import Connection

STREAM_NOT_FOUND = 10059


async def real_streams(connection: Connection) -> dict[str, dict[str, Any]]:
    """The configuration of every stream of the account, by name."""
    return {
        info["config"]["name"]: info["config"] async for info in _pages(connection, "STREAM.LIST", "streams")
    }


async def consumers_on(connection: Connection, stream: str) -> list[dict[str, Any]]:
    """The server's info on every durable consumer of a stream."""
    return [
        info
        async for info in _pages(connection, f"CONSUMER.LIST.{stream}", "consumers")
        if info["config"].get("durable_name")
    ]


async def stream_info(connection: Connection, name: str, **request: Any) -> dict[str, Any] | None:
    """The server's info on a stream; None when there is no such stream."""
    try:
        return await connection.api(f"STREAM.INFO.{name}", request or None)
    except ServerError as error:
        if error.code == STREAM_NOT_FOUND:
            return None
        raise


async def holdings(connection: Connection, stream: DeclaredStream, info: Mapping[str, Any]) -> Holdings:
    """What a declared change could hurt. Only what could matter is read: counting subjects is dear to the server."""
    state, config = info["state"], info["config"]
    readers = [
        Reader(consumer["name"], _filters(consumer["config"]))
        for consumer in await consumers_on(connection, stream.name)
    ]
    most = 0
    limit = wanted(stream, config).get("max_msgs_per_subject", -1)
    if 0 < limit != config.get("max_msgs_per_subject"):
        most = max([count async for _, count in _subjects(connection, stream.name, ">")], default=0)
    uncaptured: dict[str, int] = {}
    for gone in config.get("subjects") or () if stream.subjects else ():
        if any(covers(subject, gone) for subject in stream.subjects):
            continue
        if config.get("subject_transform") and state["messages"]:
            uncaptured[gone] = state[
                "messages"
            ]  # stored under other subjects: which ones came from here is not known
            continue
        uncaptured |= {
            subject: count
            async for subject, count in _subjects(connection, stream.name, gone)
            if not any(matches(pattern, subject) for pattern in stream.subjects)
        }
    return Holdings(
        messages=state["messages"],
        bytes=state["bytes"],
        oldest=_age(info) if state["messages"] else 0.0,
        most_per_subject=most,
        uncaptured=uncaptured,
        readers=tuple(readers),
    )


def _filters(config: Mapping[str, Any]) -> tuple[str, ...]:
    one = config.get("filter_subject")
    return (one,) if one else tuple(config.get("filter_subjects") or ())


def _age(info: Mapping[str, Any]) -> float:
    """Seconds since the oldest message, both by the server's clock."""
    now = datetime.datetime.fromisoformat(info["ts"])
    return (now - datetime.datetime.fromisoformat(info["state"]["first_ts"])).total_seconds()


async def _subjects(connection: Connection, stream: str, pattern: str) -> AsyncIterator[tuple[str, int]]:
    """Every stored subject that the pattern matches, and its messages."""
    offset = 0
    while True:
        info = await stream_info(connection, stream, subjects_filter=pattern, offset=offset)
        subjects = (info or {}).get("state", {}).get("subjects") or {}
        for subject, count in subjects.items():
            yield subject, count
        offset += len(subjects)
        if not subjects or offset >= (info or {}).get("total", 0):
            return


async def _pages(connection: Connection, request: str, field: str) -> AsyncIterator[dict[str, Any]]:
    """Every item of an answer that comes in pages."""
    offset = 0
    while True:
        page = await connection.api(request, {"offset": offset})
        items = page.get(field) or []
        for item in items:
            yield item
        offset += len(items)
        if not items or offset >= page["total"]:
            return
