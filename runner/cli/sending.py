"""Sends messages into streams: up to 512 are in flight, each is confirmed, and they are reported in the order they were given."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from runner.cli.session import say
from runner.core import header
from runner.core import subject as subjects
from runner.core.quantity import format_duration
from runner.errors import JetrunnerError, NoResponders, NoStream, ServerError, Unconfirmed, UsageError
from runner.jetstream.connection import Connection
from runner.jetstream.publisher import PubAck, in_doubt, read_ack
from runner.jetstream.server import AGAIN_SECONDS, leaderless, no_leader
from runner.telemetry.tracing import Tracing

IN_FLIGHT = 512


class SentMessage(Struct):
    """One message, and what became of it."""

    where: str
    """Where the message was given, as `line 3`; empty for the only message."""
    subject: str
    trace_id: str = ""
    ack: PubAck | None = None
    error: JetrunnerError | None = None

    @property
    def done(self) -> bool:
        """Whether its stream has stored it, or an error has come."""
        return self.ack is not None or self.error is not None


Told: TypeAlias = Callable[[SentMessage], None]


class Sender:
    """Sends messages, and calls `told` with what became of each, in order."""

    def __init__(self, connection: Connection, tracing: Tracing, told: Told, patience: float) -> None:
        self._connection = connection
        self._tracing = tracing
        self._told = told
        self._patience = patience
        """Most seconds to wait for a stream without a leader."""
        self._told_waiting = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[SentMessage] = deque()
        self._moved = asyncio.Event()
        self._broken: OSError | None = None
        """The error of `told`, after which it is not called again."""

    def refuse(self, where: str, subject: str, reason: str, hint: str = "") -> None:
        """Report a message that cannot be sent, in its place among the others."""
        self._waiting.append(SentMessage(where, subject, error=UsageError(reason, hint=hint)))
        self._tell()

    async def send(
        self, where: str, subject: str, template: str, body: bytes, headers: Sequence[tuple[str, str]]
    ) -> None:
        """Send one message; this waits only while too many are in flight."""
        if why := subjects.problem(subject):
            self.refuse(where, subject, f"cannot publish to {subject!r}: {why}")
            return
        while len(self._waiting) >= IN_FLIGHT:
            await self._movement()
        span = self._tracing.publish_span(subject, template, headers=headers)
        entered = span.__enter__()
        replaced = {name.lower() for name, _ in entered.headers}
        pairs = [*(pair for pair in headers if pair[0].lower() not in replaced), *entered.headers]
        sent = SentMessage(where, subject, entered.trace_id)
        self._waiting.append(sent)

        def answered(again: bool, header: bytes | None, answer: bytes, error: ServerError | None) -> None:
            try:
                if error is not None:
                    raise error
                sent.ack = read_ack(answer)
            except ServerError as refused:
                if again and isinstance(refused, NoResponders):
                    self._later(self._insist(subject, body, pairs, refused, answered))
                    return
                sent.error = _explained(refused, subject)
                span.__exit__(type(refused), refused, refused.__traceback__)
            else:
                entered.stored(sent.ack.stream, sent.ack.seq)
                span.__exit__(None, None, None)
            self._tell()

        try:
            block = header.encode(pairs) if pairs else b""
            self._connection.publisher.send(subject.encode(), body, block, answered, True)
        except ServerError as error:
            answered(False, None, b"", error)
        except ValueError as error:
            answered(False, None, b"", ServerError(str(error)))

    def _later(self, way: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(way)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _insist(
        self,
        subject: str,
        body: bytes,
        pairs: Sequence[tuple[str, str]],
        error: ServerError,
        answered: Callable[[bool, bytes | None, bytes, ServerError | None], None],
    ) -> None:
        """Send a message again while its stream has no leader; nothing has answered, so the message is not stored."""
        until = time.monotonic() + self._patience
        while isinstance(error, NoResponders) and (why := await leaderless(self._connection, subject)):
            if not self._told_waiting:
                self._told_waiting = True
                say(f"waiting: {why}; at most {format_duration(self._patience)}")
            if time.monotonic() >= until:
                error = no_leader(why)
                break
            await asyncio.sleep(AGAIN_SECONDS)
            try:
                _, answer = await self._connection.request_whole(subject, body, pairs=list(pairs))
            except ServerError as refused:
                error = refused
            else:
                answered(False, None, answer, None)
                return
        answered(False, None, b"", error)

    async def finish(self) -> None:
        """Wait until every message is reported. Raises the OSError that `told` has raised."""
        while self._waiting:
            await self._movement()
        if self._broken is not None:
            raise self._broken

    async def _movement(self) -> None:
        if self._broken is None:
            self._moved.clear()
            await self._moved.wait()
        if self._broken is not None:
            raise self._broken

    def _tell(self) -> None:
        """Report the messages whose turn it is; this runs while the connection reads an answer, and a closed pipe must not end that."""
        try:
            while self._broken is None and self._waiting and self._waiting[0].done:
                self._told(self._waiting.popleft())
        except OSError as error:
            self._broken = error
        self._moved.set()


def _explained(error: ServerError, subject: str) -> ServerError:
    if isinstance(error, NoResponders):
        return NoStream(
            f"no stream captures {subject}",
            hint="declare one in streams/ and run `runner apply`, or correct the subject",
        )
    if isinstance(error, (NoStream, Unconfirmed)):
        return in_doubt(error)
    return error
