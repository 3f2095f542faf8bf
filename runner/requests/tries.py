"""The tries that wait for an answer, by token, and the end of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from runner.core.balancer import Backend, Ended
from runner.requests.peer import Peer
from runner.requests.request import Request, Try
from runner.requests.target import Target

log = logging.getLogger("jetrunner.requests")

Item = TypeVar("Item", bound="Request | Try")


def each(of: Iterable[Item], do: Callable[[Item], None]) -> None:
    """Do it with each of several requests, or tries; where that fails its asker alone is told, and the others go on."""
    for item in of:
        try:
            do(item)
        except Exception as error:
            request = item.request if isinstance(item, Try) else item
            log.exception("the request to %s has failed here", request.subject.decode(errors="replace"))
            if not request.future.done():
                request.future.set_exception(error)


class Tries:
    """All requests of this process that are on their way."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, Try] = {}
        """By token."""
        self._count = 0

    def begin(
        self, request: Request, target: Target | None, backend: Backend | None, peer: Peer | None, now: float
    ) -> Try:
        """A request goes to an instance, or to whichever NATS picks."""
        self._count += 1
        token = b"%d" % self._count
        idempotent = target is not None and peer is not None and target.pattern in peer.idempotent
        tried = self.waiting[token] = Try(request, token, now, target, backend, peer, idempotent)
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
        """It is over: the tables are as if it had never been, and its instance is judged by how it ended."""
        del self.waiting[tried.token]
        tried.request.open.remove(tried)
        if (peer := tried.peer) is not None:
            del peer.outstanding[tried.token]
            assert tried.backend is not None
            assert tried.target is not None
            changed = tried.target.balancer.done(tried.backend, now, now - tried.sent, how)
            if changed is not None:
                log.info("%s: instance %s: %s", tried.target.function, peer.id, changed)
        if tried.span is not None:
            tried.span.end(error, code)
