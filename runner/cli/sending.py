"""Messages on their way into streams: hundreds in flight, each confirmed, told in the order they were given."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from runner.core import header
from runner.core import subject as subjects
from runner.errors import JetrunnerError, NoStream, ServerError, UsageError
from runner.jetstream.connection import Connection
from runner.jetstream.publisher import PubAck, read_ack
from runner.telemetry.tracing import Tracing

IN_FLIGHT = 512


class Sent(Struct):
    """One message, and what became of it."""

    where: str
    """Where it was given, as `line 3`; empty for the only one."""
    subject: str
    trace_id: str = ""
    ack: PubAck | None = None
    error: JetrunnerError | None = None

    @property
    def done(self) -> bool:
        """Whether its stream, or an error, has answered."""
        return self.ack is not None or self.error is not None


Told: TypeAlias = Callable[[Sent], None]


class Sender:
    """Sends messages and tells each one's end to `told`, in order."""

    def __init__(self, connection: Connection, tracing: Tracing, told: Told) -> None:
        self._connection = connection
        self._tracing = tracing
        self._told = told
        self._waiting: deque[Sent] = deque()
        self._moved = asyncio.Event()
        self._broken: OSError | None = None
        """Why nobody can be told any more."""

    def refuse(self, where: str, subject: str, reason: str, hint: str = "") -> None:
        """A message that cannot be sent, told in its place among the others."""
        self._waiting.append(Sent(where, subject, error=UsageError(reason, hint=hint)))
        self._tell()

    async def send(
        self, where: str, subject: str, template: str, body: bytes, headers: Sequence[tuple[str, str]]
    ) -> None:
        """Send one; waits only while too many are in flight."""
        if why := subjects.problem(subject):
            self.refuse(where, subject, f"cannot publish to {subject!r}: {why}")
            return
        while len(self._waiting) >= IN_FLIGHT:
            await self._movement()
        span = self._tracing.publish_span(subject, template, headers=headers)
        entered = span.__enter__()
        replaced = {name.lower() for name, _ in entered.headers}
        pairs = [*(pair for pair in headers if pair[0].lower() not in replaced), *entered.headers]
        sent = Sent(where, subject, entered.trace_id)
        self._waiting.append(sent)

        def answered(_: Any, header: bytes | None, body: bytes, error: ServerError | None) -> None:
            try:
                if error is not None:
                    raise error
                sent.ack = read_ack(body)
            except ServerError as refused:
                sent.error = _explained(refused, subject)
                span.__exit__(type(refused), refused, refused.__traceback__)
            else:
                entered.stored(sent.ack.stream, sent.ack.seq)
                span.__exit__(None, None, None)
            self._tell()

        try:
            block = header.encode(pairs) if pairs else b""
            self._connection.publisher.send(subject.encode(), body, block, answered, None)
        except ServerError as error:
            answered(None, None, b"", error)
        except ValueError as error:
            answered(None, None, b"", ServerError(str(error)))

    async def finish(self) -> None:
        """Return once every message is told. Raises the OSError that telling met."""
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
        """Called within the read that brought an answer, which a closed pipe must not end."""
        try:
            while self._broken is None and self._waiting and self._waiting[0].done:
                self._told(self._waiting.popleft())
        except OSError as error:
            self._broken = error
        self._moved.set()


def _explained(error: ServerError, subject: str) -> ServerError:
    if isinstance(error, NoStream):
        return NoStream(
            f"no stream captures {subject}",
            hint="declare one in streams/ and run `runner apply`, or correct the subject",
        )
    return error
