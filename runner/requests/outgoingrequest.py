"""A request, and each try to have an instance answer it."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from runner.core.balancer import Backend, Policy
from runner.errors import NoResponders, ServerError, Unconfirmed
from runner.host import Reply
from runner.requests.callee import Callee
from runner.requests.peer import Peer
from runner.telemetry.tryspan import Asker, TrySpan


class OutgoingRequest(Struct, eq=False):
    """One request, until it is answered, given up or withdrawn."""

    subject: bytes
    body: bytes
    lines: bytes
    """The asker's own headers, as lines of a header block."""
    deadline: float
    """When the asker stops waiting, by the monotonic clock."""
    future: asyncio.Future[Reply]
    policy: Policy
    asker: Asker
    callee: Callee | None = None
    """The function that answers; None if no instance is known, so that NATS picks one."""
    open: list[Try] = []
    tried: list[str] = []
    """The instances that it was sent to."""
    tries: int = 0
    refused: int = 0
    """How many instances picked by NATS have refused it unbegun."""
    unsure: bool = False
    """Whether one of its tries may have run: then it is sent again only to an idempotent function."""
    error: ServerError | None = None
    """The error of a try that has run, or may have run."""
    refusal: ServerError | None = None
    """The error of the last try that was refused unbegun."""
    missed: NoResponders | None = None
    """Set if nobody listened when it was last sent."""
    near: bool = False
    """Whether its deadline is within 0.5 s, and so is watched to 10 ms."""

    def forget(self, peer: Peer) -> None:
        """Take an instance out of `tried`, because the request was not delivered to it."""
        if peer.id in self.tried:
            self.tried.remove(peer.id)

    @property
    def verdict(self) -> ServerError | None:
        """The error for the asker if no instance is left; None if the request was neither answered nor may have run."""
        if self.error is None and self.unsure:
            text = self.subject.decode(errors="replace")
            return Unconfirmed(f"no answer came on {text}; it may have been worked on")
        return self.error or self.refusal


class Try(Struct, eq=False):
    """A request on its way to one instance, or to whichever NATS picks."""

    request: OutgoingRequest
    token: bytes
    sent: float
    callee: Callee | None = None
    backend: Backend | None = None
    peer: Peer | None = None
    idempotent: bool = False
    """Whether the request may run twice, as the instance said when the request was sent. Later announcements, perhaps of another
    release, do not count.
    """
    span: TrySpan | None = None
