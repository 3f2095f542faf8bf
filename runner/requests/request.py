"""A request, and each try to have an instance answer it."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from runner.core.balancer import Backend, Policy
from runner.errors import NoResponders, ServerError, Unconfirmed
from runner.host import Reply
from runner.requests.peer import Peer
from runner.requests.target import Target
from runner.telemetry.tryspan import Asker, TrySpan


class Request(Struct, eq=False):
    """What was asked, until it is answered, given up or taken back."""

    subject: bytes
    body: bytes
    lines: bytes
    """The asker's own headers, as they stand in a block."""
    deadline: float
    """By the monotonic clock."""
    future: asyncio.Future[Reply]
    policy: Policy
    asker: Asker
    target: Target | None = None
    """None: nobody is known who answers on a subject of its own."""
    open: list[Try] = []
    tried: list[str] = []
    """Instances that it was sent to."""
    tries: int = 0
    refused: int = 0
    """How often it was refused, unbegun, by an instance that NATS picked."""
    unsure: bool = False
    """Whether one of its tries may have run: then it goes only where it may run twice."""
    error: ServerError | None = None
    """What a try was answered that has run, or may have."""
    refusal: ServerError | None = None
    """What the last try was answered that was not begun."""
    missed: NoResponders | None = None
    """Nobody was there, the last time that it was sent."""
    near: bool = False
    """Its deadline is watched to 10 ms."""

    def forget(self, peer: Peer) -> None:
        """It was not delivered there."""
        if peer.id in self.tried:
            self.tried.remove(peer.id)

    @property
    def verdict(self) -> ServerError | None:
        """What its asker is told where no other instance is left; None where it was neither answered nor may have run."""
        if self.error is None and self.unsure:
            text = self.subject.decode(errors="replace")
            return Unconfirmed(f"no answer came on {text}; it may have been worked on")
        return self.error or self.refusal


class Try(Struct, eq=False):
    """A request on its way to one instance, or to whichever NATS picks."""

    request: Request
    token: bytes
    sent: float
    target: Target | None = None
    backend: Backend | None = None
    peer: Peer | None = None
    idempotent: bool = False
    """Whether it may run twice: its instance said so when the request was sent there. What is said later, perhaps by another
    release, does not count."""
    span: TrySpan | None = None
