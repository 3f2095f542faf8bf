"""What follows a try without a result: the request goes to another instance, or its asker gets an error."""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.core import failover, header, service
from runner.errors import NoResponders, PermissionDenied, ServiceError, Unconfirmed
from runner.requests.directory import Directory
from runner.requests.liveness import Liveness
from runner.requests.outgoingrequest import OutgoingRequest, Try
from runner.requests.tries import Tries, each

BLIND_TRIES = 3
"""Most repeated tries of a refused request whose instances are not known: NATS picks an instance each time."""

LOST = "the connection was lost; the request may have been worked on"

clock = time.monotonic


class Failover:
    """Acts on failed tries, as `core/failover.py` decides."""

    def __init__(
        self,
        directory: Directory,
        tries: Tries,
        liveness: Liveness,
        postponed: dict[OutgoingRequest, None],
        send: Callable[[OutgoingRequest], None],
    ) -> None:
        """Requests in `postponed` are sent a moment later; `send` sends a request to an instance that has not been tried."""
        self._directory = directory
        self._tries = tries
        self._liveness = liveness
        self._postponed = postponed
        self._send = send

    def erred(self, tried: Try, code: int, block: bytes) -> None:
        """Handle an error that an instance has answered."""
        request, callee, now = tried.request, tried.callee, clock()
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
        if why in ("draining", "unknown") and callee is not None and tried.peer is not None:
            self._directory.take_out(callee.pattern, tried.peer)
        match failover.after_error(code, why, idempotent=self._directory.may_repeat(tried)):
            case "elsewhere" if callee is not None or request.refused < BLIND_TRIES:
                request.refused += callee is None
                self.send_again(request)
            case "elsewhere within budget" if callee is not None and callee.budget.withdraw(now):
                self.send_again(request)
            case _:
                settle(request, request.verdict or error)

    def send_again(self, request: OutgoingRequest) -> None:
        """Send a request again, to the instances that are known now. If it may have run, it goes only to an idempotent function."""
        callee = request.callee = self._directory.callee(request.subject)
        if request.unsure and (callee is None or not callee.idempotent):
            if callee is not None or request.error is not None:
                settle(request, request.error or Unconfirmed(LOST))
            else:
                self._postponed[request] = None
        else:
            self._send(request)

    def not_there(self, tried: Try) -> None:
        """Handle a try where nobody listened: it was not delivered, so it may go elsewhere even if the function is not idempotent."""
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
        elif self._directory.is_unsure:  # instances may be on their way back
            self._postponed[request] = None
        else:
            settle(request, error)

    def denied(self, subject: str) -> None:
        """Handle a subject that we may not publish to: tries that were sent there were not delivered."""
        each(
            [tried for tried in self._tries.waiting.values() if _sent_on(tried) == subject], self._denied_one
        )

    def _denied_one(self, tried: Try) -> None:
        request, peer = tried.request, tried.peer
        error = _denied(_sent_on(tried))
        self._tries.end(tried, clock(), "withdrawn", error)
        if peer is not None and tried.callee is not None:
            self._directory.take_out(tried.callee.pattern, peer)
        if request.future.done():
            return
        if peer is not None:
            request.forget(peer)
            request.callee = None  # sent by the queue group, as by any client
            self._send(request)
        else:
            settle(request, error)

    def connection_lost(self, tried: Try) -> None:
        """Handle a try whose connection was lost: no answer comes, and an instance may work on it."""
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


def settle(request: OutgoingRequest, error: Exception) -> None:
    """Give a request up with an error, unless one of its tries is still on its way."""
    if not request.open and not request.future.done():
        request.future.set_exception(error)


def _sent_on(tried: Try) -> str:
    """The subject that a try was sent to, as the server names it in an error."""
    asked = tried.request.subject
    return (asked if tried.peer is None else tried.peer.prefix + asked).decode(errors="replace").lower()


def _denied(subject: str) -> PermissionDenied:
    """The error for an asker that may not publish to a subject."""
    return PermissionDenied(
        f"the credentials do not allow to publish to {subject}",
        hint="grant the user publish permission on this subject, see `runner permissions --requests`",
    )
