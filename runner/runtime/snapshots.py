"""The answers of a project's instances to the question for their status."""

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

ANSWER_SECONDS = 1.0
"""How long a command waits for the answers of instances: one whose loop is busy answers late."""
PATIENCE_SECONDS = 1.5
"""How long an instance may take to say what it reads before it counts as gone."""
MOST = 10_000
"""Most answers that are taken."""


def subject(project: str) -> str:
    """The subject on which a project's instances answer."""
    return f"jetrunner.{project}.status"


async def collect(
    connection: Connection,
    project: str,
    timeout: float = ANSWER_SECONDS,
    about: Question | None = None,
    expected: Collection[str] = (),
) -> list[dict[str, Any]]:
    """The snapshots of all instances that answer within `timeout` seconds; each tells what it holds of the message `about`.

    If instances are `expected`, this returns as soon as all of them have answered.
    """
    found: list[dict[str, Any]] = []
    missing, whole = {*expected}, asyncio.Event()
    inbox = connection.new_inbox()

    def answered(subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        if header is not None or len(found) >= MOST:
            return  # no responders, or too many answers
        told = tolerant.read(snapshots.read, body, "an answer to the question for the status")
        if told is not None:  # None: any client may answer on our subject
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
    """The instances other than `me` that run a function on a stream, with what each says of that function.

    An instance of the previous release is named by host and process id alone, so its name never equals `me`.
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
    """The subject that each other instance reads with a function's durable; empty if an instance does not say."""
    found = await living(connection, project, function, stream, me=me)
    return {name: part.get("subject") or "" for name, part in found if part["durable"] == durable}


def taken(binding: Binding, instance: str, subject: str) -> UsageError:
    """The error for a function that starts while another function of the same name runs."""
    return UsageError(
        f"{binding.place}: instance {instance} reads {subject} by the same name, "
        f"and this one would read {binding.subject.wildcard}",
        hint="stop that one first; or, where they are two functions, give one of them another name=, or the project",
    )
