"""What the instances of a project answer when they are asked for their status."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import anyio
import msgspec

from runner.bindings import Binding
from runner.core import snapshot as snapshots
from runner.core.holding import Question
from runner.errors import UsageError
from runner.jetstream import tolerant
from runner.jetstream.connection import Connection

PATIENCE_SECONDS = 1.5
"""So long an instance may take to say what it reads, before it counts as gone."""
MOST = 10_000
"""So many answers are taken."""


def subject(project: str) -> str:
    """Where the instances of a project answer."""
    return f"jetrunner.{project}.status"


async def collect(
    connection: Connection,
    project: str,
    timeout: float = 0.5,
    about: Question | None = None,
    expected: Collection[str] = (),
) -> list[dict[str, Any]]:
    """The snapshot of every instance that answers within `timeout` seconds; each tells what it has of the message that is asked `about`.

    Where some are `expected`, no longer than until all of these have answered.
    """
    found: list[dict[str, Any]] = []
    missing, whole = {*expected}, asyncio.Event()
    inbox = connection.new_inbox()

    def answered(subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        if header is not None or len(found) >= MOST:
            return  # no responders
        told = tolerant.read(snapshots.read, body, "an answer to the question for the status")
        if told is not None:  # any client can answer on our subject
            found.append(msgspec.to_builtins(told))
            missing.discard(told.instance)
            if expected and not missing:
                whole.set()

    unsubscribe = await connection.wire.subscribe(inbox, answered)
    try:
        asked = msgspec.json.encode(about) if about is not None else b""
        connection.wire.publish(subject(project).encode(), asked, inbox.encode())
        with anyio.move_on_after(timeout):
            await whole.wait()
    finally:
        await unsubscribe()
    return sorted(found, key=lambda snapshot: str(snapshot["instance"]))


async def living(
    connection: Connection, project: str, function: str, stream: str, *, me: str
) -> list[tuple[str, dict[str, Any]]]:
    """The instances other than `me` that run a function on a stream, each with what it says of it.

    One of the release before this is called by its host and process id alone, and so never as this one.
    """
    told = [
        (each["instance"], each["functions"][function])
        for each in await collect(connection, project, PATIENCE_SECONDS)
        if function in each["functions"] and each["instance"] != me
    ]
    return [(instance, part) for instance, part in told if part["stream"] == stream]


async def readers(
    connection: Connection, project: str, function: str, stream: str, durable: str, *, me: str
) -> dict[str, str]:
    """The subjects that other instances read with a function's durable; empty where one does not tell its own."""
    found = await living(connection, project, function, stream, me=me)
    return {name: part.get("subject") or "" for name, part in found if part["durable"] == durable}


def taken(binding: Binding, instance: str, subject: str) -> UsageError:
    """The error of a function that starts while another one runs by its name."""
    return UsageError(
        f"{binding.place}: instance {instance} reads {subject} by the same name, "
        f"and this one would read {binding.subject.wildcard}",
        hint="stop that one first; or, where they are two functions, give one of them another name=, or the project",
    )
