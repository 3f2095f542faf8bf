"""The inbox: one subscription to which all answers come; it passes each to its waiter.

A waiter is called within the read that brought the answer, and only once: with the answer, or with an error (`Unconfirmed` after
its time or when the connection is lost, `PermissionDenied` as soon as the server says so). A waiter whose answer comes in many
messages returns True for each until the last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from runner.errors import NoResponders, PermissionDenied, ServerError, Unconfirmed
from runner.jetstream.denials import DENIED, Denials
from runner.jetstream.wire import Unsubscribe

SWEEP_SECONDS = 0.25
INBOX = b"_INBOX"
"""The beginning of inbox subjects, unless another prefix is set."""
NO_RESPONDERS = b"NATS/1.0 503"
clock = time.monotonic
MORE_SECONDS = 2.0
"""Longest silence between two messages of one answer."""

Waiter = Callable[[Any, "bytes | None", bytes, "ServerError | None"], "bool | None"]
"""Called with the argument given to `expect`, the raw header block, the body, and the error or None; True asks for more."""


class Inbox:
    """Passes on the answers that come under one inbox subject, by token."""

    def __init__(self, wire: Any, subject: str) -> None:
        self._wire = wire
        self._prefix = subject.encode() + b"."
        self._cut = len(self._prefix)
        self._kind = self._prefix.rpartition(b".")[0].rpartition(b".")[0] + b"."
        """The beginning of inboxes with this connection's prefix."""
        self._count = 0
        self._waiting: dict[bytes, tuple[Waiter, Any, bytes, float]] = {}
        self.denials = Denials()
        self.on_denied: list[Callable[[str], None]] = []
        """Called with each subject, in lower case, that the server does not let us publish to."""
        self._timer: asyncio.TimerHandle | None = None
        self._unsubscribe: Unsubscribe | None = None

    async def open(self) -> None:
        """Subscribe, and start to watch the waiters' times."""
        self._unsubscribe = await self._wire.subscribe(self._prefix.decode() + "*", self._arrived)
        self._sweep()

    def close(self) -> None:
        """Give all waiters an error, and stop."""
        if self._timer is not None:
            self._timer.cancel()
        self.lost()

    def expect(self, waiter: Waiter, argument: Any, subject: bytes, timeout: float) -> bytes:
        """Give the reply subject under which an answer to a publish on `subject` reaches `waiter`."""
        self._count += 1
        token = b"%d" % self._count
        self._waiting[token] = (waiter, argument, subject, clock() + timeout)
        return self._prefix + token

    def forget(self, reply: bytes) -> None:
        """Forget a waiter: its answer is not needed any more."""
        self._waiting.pop(reply[self._cut :], None)

    @property
    def kinds(self) -> tuple[bytes, bytes]:
        """The beginnings of inboxes as clients make them, and of ours."""
        return INBOX, self._kind

    def is_one(self, reply: bytes) -> bool:
        """Whether a reply subject is an inbox, as clients make them or one of ours."""
        return reply.startswith(self.kinds)

    def __len__(self) -> int:
        return len(self._waiting)

    def _arrived(self, subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        token = subject[self._cut :]
        waiting = self._waiting.pop(token, None)
        if waiting is None:
            return
        waiter, argument, asked, _ = waiting
        if header is not None and header.startswith(NO_RESPONDERS):
            waiter(
                argument, header, body, NoResponders(f"nobody answers on {asked.decode(errors='replace')}")
            )
        elif waiter(argument, header, body, None):
            self._waiting[token] = (waiter, argument, asked, clock() + MORE_SECONDS)

    def lost(self) -> None:
        """Give all waiters an error, because the connection is lost."""
        self._fail(list(self._waiting), lambda asked: Unconfirmed("the connection was lost"))

    def denied(self, text: str) -> None:
        """Take in a permission error of the server, which names the subject in lower case and no reply."""
        found = DENIED.search(text)
        if not found:
            return
        subject = found[1]
        self.denials.denied(subject)
        for each in self.on_denied:
            each(subject)
        tokens = [
            token
            for token, waiting in self._waiting.items()
            if waiting[2].decode(errors="replace").lower() == subject
        ]
        self._fail(
            tokens,
            lambda asked: PermissionDenied(
                f"the credentials do not allow to publish to {asked.decode(errors='replace')}",
                hint="grant the user publish permission on this subject",
            ),
        )

    def _sweep(self) -> None:
        # First, so that a waiter that raises does not end the sweep.
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        now = clock()
        late = [token for token, waiting in self._waiting.items() if waiting[3] <= now]
        self._fail(late, lambda asked: Unconfirmed(f"no answer came on {asked.decode(errors='replace')}"))

    def _fail(self, tokens: list[bytes], error: Callable[[bytes], ServerError]) -> None:
        for token in tokens:
            waiting = self._waiting.pop(token, None)
            if waiting is not None:
                waiter, argument, asked, _ = waiting
                waiter(argument, None, b"", error(asked))


async def ask(
    inbox: Inbox,
    wire: Any,
    subject: bytes,
    body: bytes,
    timeout: float,
    header: bytes = b"",
) -> tuple[bytes | None, bytes]:
    """Publish with a raw header block, and wait for the answer: its raw header block and body."""
    future: asyncio.Future[tuple[bytes | None, bytes]] = asyncio.get_running_loop().create_future()
    reply = inbox.expect(_answer, future, subject, timeout)
    try:
        wire.publish(subject, body, reply, header)
        return await future
    finally:
        inbox.forget(reply)


def _answer(future: Any, header: bytes | None, body: bytes, error: ServerError | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result((header, body))
