"""Whether instances live: each that is late is asked whether it lives, and its work goes elsewhere where it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable

from runner.errors import NoStream, PermissionDenied
from runner.jetstream.connection import Connection
from runner.requests.directory import Directory
from runner.requests.peer import Peer
from runner.requests.request import Request, Try
from runner.requests.tries import Tries, each

log = logging.getLogger("jetrunner.requests")

PING_SECONDS = 1.0
"""The answer to a question whether it lives is not waited for longer."""


class Liveness:
    """Looks at the instances that have requests."""

    def __init__(
        self, connection: Connection, directory: Directory, tries: Tries, send: Callable[[Request], None]
    ) -> None:
        """`send` sends a request to an instance that has not been tried."""
        self._connection = connection
        self._directory = directory
        self._tries = tries
        self._send = send

    def check(self, now: float, stood_still: float) -> None:
        """Ask those that are late whether they live; what one works on that does not tell goes elsewhere.

        For so many seconds since the last time the loop of this process `stood_still`: no instance is blamed for them.
        """
        for peer in self._directory.asked():
            if peer.unanswered and stood_still:
                peer.unanswered = min(now, peer.unanswered + stood_still)
            if peer.unreachable:
                self._elsewhere(peer)  # each time: an instance may have come that can take its work
                continue
            if peer.is_late(now):
                self._ask(peer, now)
            if peer.is_frozen(now):
                if not peer.frozen:
                    peer.frozen = True
                    log.info("instance %s of %s does not answer", peer.id, peer.project)
                self._suspend(peer, now)
                self._elsewhere(peer)  # each time: a trial may have come to it since

    def _ask(self, peer: Peer, now: float) -> None:
        """Whether it lives."""
        peer.probed = now
        peer.unanswered = peer.unanswered or now
        reply = self._connection.inbox.expect(self._told, peer, peer.ping, PING_SECONDS)
        self._connection.wire.publish_known(peer.ping, b"", reply)

    def connection_lost(self) -> None:
        """No question that was asked is answered any more, and that is no instance's fault."""
        for peer in self._directory.asked():
            peer.heard()

    def _suspend(self, peer: Peer, now: float) -> None:
        """It gets nothing for a while, of any function."""
        for target in self._directory.targets_of(peer):
            target.balancer.suspend(target.balancer.backends[peer.id], now)

    def nobody_listens(self, peer: Peer) -> None:
        """Nobody listens at an instance: it has ended, or is cut off and still works on what it has."""
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
        """Ask others, too, what may run twice; whoever answers first has answered."""
        each([self._tries.waiting[token] for token in peer.outstanding], self._one_elsewhere)

    def _one_elsewhere(self, tried: Try) -> None:
        request = tried.request
        if request.future.done() or request.open[-1] is not tried or not self._directory.may_repeat(tried):
            return
        target = self._directory.target(request.subject)
        if target is not None and not set(target.peers) <= set(request.tried):
            request.target, request.unsure = target, True
            self._send(request)
