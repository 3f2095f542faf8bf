"""What follows when a try was not answered with a result: another instance, or an error for the asker."""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.core import failover, header, service
from runner.errors import NoResponders, PermissionDenied, ServiceError, Unconfirmed
from runner.requests.directory import Directory
from runner.requests.liveness import Liveness
from runner.requests.request import Request, Try
from runner.requests.tries import Tries, each

BLIND_TRIES = 3
"""Of a request whose instances are not known: NATS picks one each time."""

LOST = "the connection was lost; the request may have been worked on"

clock = time.monotonic


class Failover:
    """Decides by `core/failover.py`, and has it done."""

    def __init__(
        self,
        directory: Directory,
        tries: Tries,
        liveness: Liveness,
        postponed: dict[Request, None],
        send: Callable[[Request], None],
    ) -> None:
        """`postponed` are sent a moment later; `send` sends to an instance that has not been tried."""
        self._directory = directory
        self._tries = tries
        self._liveness = liveness
        self._postponed = postponed
        self._send = send

    def erred(self, tried: Try, code: int, block: bytes) -> None:
        """An instance has answered with an error."""
        request, target, now = tried.request, tried.target, clock()
        why = failover.not_started(header.get(block, service.NOT_STARTED.encode()))
        text = (header.get(block, service.ERROR.encode()) or b"").decode(errors="replace")
        error = ServiceError(text or f"error {code}", code=code)
        self._tries.end(tried, now, failover.ended(code, why), error, code)
        if request.future.done():
            return
        if why is None:
            request.unsure, request.error = True, error
        else:
            request.refusal = error
        if why in ("draining", "unknown") and target is not None and tried.peer is not None:
            self._directory.take_out(target.pattern, tried.peer)
        match failover.after_error(code, why, idempotent=self._directory.may_repeat(tried)):
            case "elsewhere" if target is not None or request.refused < BLIND_TRIES:
                request.refused += target is None
                self.send_again(request)
            case "elsewhere within budget" if target is not None and target.budget.withdraw(now):
                self.send_again(request)
            case _:
                settle(request, request.verdict or error)

    def send_again(self, request: Request) -> None:
        """Send it to those that are there now; what may have run, only where it may run twice, if that is known."""
        target = request.target = self._directory.target(request.subject)
        if request.unsure and (target is None or not target.idempotent):
            if target is not None or request.error is not None:
                settle(request, request.error or Unconfirmed(LOST))
            else:
                self._postponed[request] = None
        else:
            self._send(request)

    def not_there(self, tried: Try) -> None:
        """Nobody listens where it was sent: it was not delivered, so it may go elsewhere whatever the function."""
        request, peer = tried.request, tried.peer
        error = NoResponders(f"nobody answers on {request.subject.decode(errors='replace')}")
        self._tries.end(tried, clock(), "withdrawn", error)
        if peer is not None:
            self._liveness.nobody_listens(peer)
        if request.future.done():
            return
        request.missed = error
        if peer is not None:
            request.forget(peer)
            self.send_again(request)
        elif self._directory.is_unsure:  # they may be on their way back
            self._postponed[request] = None
        else:
            settle(request, error)

    def denied(self, subject: str) -> None:
        """The server does not let us publish to a subject: what was sent there was not delivered."""
        each(
            [tried for tried in self._tries.waiting.values() if _sent_on(tried) == subject], self._denied_one
        )

    def _denied_one(self, tried: Try) -> None:
        request, peer = tried.request, tried.peer
        error = _denied(_sent_on(tried))
        self._tries.end(tried, clock(), "withdrawn", error)
        if peer is not None and tried.target is not None:
            self._directory.take_out(tried.target.pattern, peer)
        if request.future.done():
            return
        if peer is not None:
            request.forget(peer)
            request.target = None  # by the queue group, as any client may
            self._send(request)
        else:
            settle(request, error)

    def connection_lost(self, tried: Try) -> None:
        """No answer comes: it may be worked on."""
        request = tried.request
        error = Unconfirmed(LOST)
        self._tries.end(tried, clock(), "withdrawn", error)
        if request.open or request.future.done():
            return
        if self._directory.may_repeat(tried):
            request.unsure = True
            request.tried.clear()
            self._postponed[request] = None
        else:
            settle(request, error)


def settle(request: Request, error: Exception) -> None:
    """Give a request up, unless a try of it is still on its way."""
    if not request.open and not request.future.done():
        request.future.set_exception(error)


def _sent_on(tried: Try) -> str:
    """The subject that it was sent to, as the server names it in an error."""
    asked = tried.request.subject
    return (asked if tried.peer is None else tried.peer.prefix + asked).decode(errors="replace").lower()


def _denied(subject: str) -> PermissionDenied:
    """The error of who may not ask."""
    return PermissionDenied(
        f"the credentials do not allow to publish to {subject}",
        hint="grant the user publish permission on this subject, see `runner permissions --requests`",
    )
