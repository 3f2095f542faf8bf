"""What the instances of a project answer when they are asked for their status."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import msgspec

from runner.core import identity
from runner.core import snapshot as snapshots
from runner.core.checked import Unfit
from runner.jetstream.connection import Connection
from runner.jetstream.stray import pass_over

MOST = 10_000
"""So many answers are taken."""


def subject(project: str) -> str:
    """Where the instances of a project answer."""
    return f"jetrunner.{project}.status"


async def collect(connection: Connection, project: str, timeout: float = 0.5) -> list[dict[str, Any]]:
    """The snapshot of every instance that answers within `timeout` seconds."""
    found: list[dict[str, Any]] = []
    inbox = connection.new_inbox()

    def answered(subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        if header is not None or len(found) >= MOST:
            return  # no responders
        try:
            found.append(msgspec.to_builtins(snapshots.read(body)))
        except Unfit as error:  # any client can answer on our subject
            pass_over("an answer to the question for the status", error)

    unsubscribe = await connection.wire.subscribe(inbox, answered)
    try:
        connection.wire.publish(subject(project).encode(), b"", inbox.encode())
        await asyncio.sleep(timeout)
    finally:
        await unsubscribe()
    return sorted(found, key=lambda snapshot: str(snapshot["instance"]))


async def readers(
    connection: Connection, project: str, function: str, stream: str, durable: str, standing: str
) -> dict[str, str]:
    """The subjects that other instances read with a function's durable; who does not tell reads what it stands for."""
    me = identity.instance(socket.gethostname(), os.getpid())
    found = {}
    for each in await collect(connection, project):
        part = each["functions"].get(function)
        if (
            part is not None
            and each["instance"] != me
            and (part["stream"], part["durable"]) == (stream, durable)
        ):
            found[each["instance"]] = part.get("subject") or standing
    return found
