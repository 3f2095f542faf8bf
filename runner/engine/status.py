"""Status: each instance answers what its functions have done; anybody may ask all of them."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from runner.core import identity
from runner.core import snapshot as snapshots
from runner.core.checked import Unfit
from runner.core.snapshot import Part, Snapshot
from runner.engine.function import Function
from runner.jetstream.connection import Connection
from runner.jetstream.stray import pass_over

MOST = 10_000
"""So many answers are taken."""


def subject(project: str) -> str:
    """Where the instances of a project answer."""
    return f"jetrunner.{project}.status"


class Responder:
    """Answers for this instance."""

    def __init__(self, connection: Connection, project: str, functions: Sequence[Function]) -> None:
        self._connection = connection
        self._project = project
        self._functions = functions
        self._since = time.time()
        self.instance = identity.instance(socket.gethostname(), os.getpid())

    async def open(self) -> None:
        """Start to answer; the subscription ends with the connection."""
        await self._connection.wire.subscribe(subject(self._project), self._asked)

    def _asked(self, subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        if reply:
            self._connection.answer(reply, msgspec.json.encode(self.snapshot()))

    def snapshot(self) -> Snapshot:
        """What this instance has done since its start."""
        now = time.monotonic()
        return Snapshot(
            self.instance,
            self._since,
            {
                each.binding.function: Part(
                    stream=each.stream,
                    durable=each.durable,
                    ordered=bool(each.binding.ordered_by),
                    key_positions=each.binding.key_positions,
                    in_flight=each.unsettled,
                    standing=each.standing,
                    **each.pipeline.stats.snapshot(now),
                )
                for each in self._functions
            },
        )


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
