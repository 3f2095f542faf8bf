"""Whether instances live: a late instance is asked, and if it does not answer, its requests go to other instances."""

from __future__ import annotations

import logging
from collections.abc import Callable

from runner.errors import NoStream, PermissionDenied
from runner.jetstream.connection import Connection
from runner.requests.directory import Directory
from runner.requests.outgoingrequest import OutgoingRequest, Try
from runner.requests.peer import Peer
from runner.requests.tries import Tries, each

log = logging.getLogger("jetrunner.requests")

PING_SECONDS = 1.0
"""How long the answer to a ping is waited for."""


class Liveness:
    """Watches the instances that have requests."""

    def __init__(
        self,
        connection: Connection,
        directory: Directory,
        tries: Tries,
        send: Callable[[OutgoingRequest], None],
    ) -> None:
        """`send` sends a request to an instance that has not been tried."""
        self._connection = connection
        self._directory = directory
        self._tries = tries
        self._send = send

    def check(self, now: float, stood_still: float) -> None:
        """Ping late instances; requests of an instance that does not answer go elsewhere.

        The event loop of this process `stood_still` for so many seconds since the last check: no instance is blamed for them.
        """
        for peer in self._directory.asked():
            if peer.unanswered and stood_still:
                peer.unanswered = min(now, peer.unanswered + stood_still)
            if peer.unreachable:
                self._elsewhere(peer)  # at each check: an instance may have come that can take its work
                continue
            if peer.is_late(now):
                self._ask(peer, now)
            if peer.is_frozen(now):
                if not peer.frozen:
                    peer.frozen = True
                    log.info("instance %s of %s does not answer", peer.id, peer.project)
                self._suspend(peer, now)
                self._elsewhere(peer)  # at each check: it may have got a trial request since

    def _ask(self, peer: Peer, now: float) -> None:
        """Ask an instance whether it lives."""
        peer.probed = now
        peer.unanswered = peer.unanswered or now
        reply = self._connection.inbox.expect(self._told, peer, peer.ping, PING_SECONDS)
        self._connection.wire.publish_known(peer.ping, b"", reply)

    def connection_lost(self) -> None:
        """Forget all pings, because their answers do not come any more; that is no instance's fault."""
        for peer in self._directory.asked():
            peer.heard()

    def _suspend(self, peer: Peer, now: float) -> None:
        """Send an instance no requests of any function for a while."""
        for callee in self._directory.callees_of(peer):
            callee.balancer.suspend(callee.balancer.backends[peer.id], now)

    def nobody_listens(self, peer: Peer) -> None:
        """Handle an instance where nobody listens: it has ended, or is cut off and still works on its requests."""
        peer.unreachable = True
        self._directory.forget(peer)
        self._elsewhere(peer)

    def _told(self, peer: Peer, _: bytes | None, __: bytes, error: Exception | None) -> None:
        if error is None:
            peer.heard()
        elif isinstance(error, PermissionDenied):
            peer.heard()
            peer.may_ping = False
        elif isinstance(error, NoStream):
            self.nobody_listens(peer)

    def _elsewhere(self, peer: Peer) -> None:
        """Also ask other instances, if the requests may run twice; the first answer counts."""
        each([self._tries.waiting[token] for token in peer.outstanding], self._one_elsewhere)

    def _one_elsewhere(self, tried: Try) -> None:
        request = tried.request
        if request.future.done() or request.open[-1] is not tried or not self._directory.may_repeat(tried):
            return
        callee = self._directory.callee(request.subject)
        if callee is not None and not set(callee.peers) <= set(request.tried):
            request.callee, request.unsure = callee, True
            self._send(request)
