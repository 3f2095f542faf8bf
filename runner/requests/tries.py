"""The tries that wait for an answer, by token: how each begins and ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from runner.core.balancer import Backend, Ended
from runner.requests.callee import Callee
from runner.requests.outgoingrequest import OutgoingRequest, Try
from runner.requests.peer import Peer

log = logging.getLogger("jetrunner.requests")

Item = TypeVar("Item", bound="OutgoingRequest | Try")


def each(of: Iterable[Item], do: Callable[[Item], None]) -> None:
    """Call `do` with each request or try. If it raises, that request's asker gets the error, and the others go on."""
    for item in of:
        try:
            do(item)
        except Exception as error:
            request = item.request if isinstance(item, Try) else item
            log.exception("the request to %s has failed here", request.subject.decode(errors="replace"))
            if not request.future.done():
                request.future.set_exception(error)


class Tries:
    """The tries of this process that are on their way."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, Try] = {}
        """The tries that wait, by token."""
        self._count = 0

    def begin(
        self,
        request: OutgoingRequest,
        callee: Callee | None,
        backend: Backend | None,
        peer: Peer | None,
        now: float,
    ) -> Try:
        """Enter a try: a request goes to an instance, or to any that NATS picks."""
        self._count += 1
        token = b"%d" % self._count
        idempotent = callee is not None and peer is not None and callee.pattern in peer.idempotent
        tried = self.waiting[token] = Try(request, token, now, callee, backend, peer, idempotent)
        request.open.append(tried)
        request.tries += 1
        if peer is not None:
            request.tried.append(peer.id)
            peer.outstanding[token] = now
        return tried

    def end(
        self,
        tried: Try,
        now: float,
        how: Ended,
        error: BaseException | str | None = None,
        code: int = 0,
    ) -> None:
        """End a try: it is removed from the tables, and its instance is judged by how it ended."""
        del self.waiting[tried.token]
        tried.request.open.remove(tried)
        if (peer := tried.peer) is not None:
            del peer.outstanding[tried.token]
            assert tried.backend is not None
            assert tried.callee is not None
            changed = tried.callee.balancer.done(tried.backend, now, now - tried.sent, how)
            if changed is not None:
                log.info("%s: instance %s: %s", tried.callee.function, peer.id, changed)
        if tried.span is not None:
            tried.span.end(error, code)
