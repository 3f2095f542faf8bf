"""The directory: which instances answer which subjects, as the instances announce it.

At the first request all instances are asked, and every 30 s from then on. In between, instances announce when they come, change and
go. A request to a subject that no instance has announced is sent as any NATS client would send it: whoever listens there answers.
"""

from __future__ import annotations

import asyncio
import time

from runner.core import service
from runner.core.service import Info
from runner.core.subject import matches
from runner.jetstream import tolerant
from runner.jetstream.connection import Connection
from runner.requests.callee import Callee
from runner.requests.outgoingrequest import Try
from runner.requests.peer import Peer

ASK_SECONDS = 30.0
SOON_SECONDS = 1.0
"""Pause before all are asked again after an instance was not there, or the connection was lost: instances may be back soon."""
BACK_SECONDS = 5.0
"""For so long after a lost connection, instances may be on their way back, too."""
FIRST_SECONDS = 0.1
"""Longest time that the first requests wait to hear who answers them."""
MOST_SUBJECTS = 10_000
"""Most subjects that are remembered with their callee."""
MOST_PEERS = 5_000
"""Most instances that are remembered. Any other is asked as any client would, until one of these is forgotten."""
MOST_CALLEES = 10_000
"""Most functions that are remembered."""
MOST_GOODBYES = 1_000
SILENT_ROUNDS = 2
"""An instance that has told nothing of itself for so many rounds of questions is forgotten."""
_ASK = b"$SRV.INFO"
_NEWS = service.NEWS.encode()

clock = time.monotonic


class Directory:
    """The instances and functions that this process knows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.callees: dict[tuple[str, str], Callee] = {}
        """The functions, by project and pattern."""
        self.peers: dict[tuple[str, str], Peer] = {}
        """The instances, by project and id."""
        self._leaving: list[Peer] = []
        """Forgotten instances that still owe answers."""
        self._goodbyes: dict[tuple[str, str], None] = {}
        """Instances that take no more requests. An answer of theirs that arrives later is ignored, because it may be out of date."""
        self.round = 0
        """How many times all instances were asked."""
        self._answered_in = 0
        """The last round that an instance answered."""
        self._told: dict[tuple[str, str], Info] = {}
        self._found: dict[bytes, Callee | None] = {}
        self._inbox = b""
        self._next = self._unsure_until = 0.0
        self.ready = False
        """Whether the first requests have waited long enough to hear who answers."""
        self._hopeful: list[tuple[bytes, asyncio.Future[None]]] = []
        """First requests that wait to hear who answers them."""

    async def open(self) -> None:
        """Listen to announcements, and ask all instances."""
        wire = self._connection.wire
        inbox = self._connection.new_inbox()
        self._inbox = inbox.encode()
        await wire.subscribe(inbox, self._answered)
        await wire.subscribe(service.NEWS, self._answered)
        self._ask(clock())
        asyncio.get_running_loop().call_later(FIRST_SECONDS, self._is_ready)

    @property
    def is_unsure(self) -> bool:
        """Whether the connection was lost less than 5 s ago, so that a missing instance may still come back."""
        return clock() < self._unsure_until

    def asked(self) -> list[Peer]:
        """Instances that may have requests, also those that are forgotten."""
        self._leaving = [each for each in self._leaving if each.outstanding]
        return [*self.peers.values(), *self._leaving]

    async def wait(self, subject: bytes) -> None:
        """Wait, after the opening, until an instance is known that answers on a subject; 100 ms at most."""
        if not self.ready and self.callee(subject) is None:
            heard = asyncio.get_running_loop().create_future()
            self._hopeful.append((subject, heard))
            await heard

    def callee(self, subject: bytes) -> Callee | None:
        """The function that answers on a subject. Of several, the one whose pattern has the longest beginning without a wildcard."""
        try:
            return self._found[subject]
        except KeyError:
            text = subject.decode(errors="surrogateescape")
            fitting = [each for each in self.callees.values() if each.peers and matches(each.pattern, text)]
            found = max(fitting, key=lambda each: _literal(each.pattern), default=None)
            if len(self._found) >= MOST_SUBJECTS:
                self._found.clear()
            self._found[subject] = found
            return found

    def may_repeat(self, tried: Try) -> bool:
        """Whether a try that may have begun may run again elsewhere: its instance allowed that, and so do the other instances."""
        callee = self.callee(tried.request.subject)
        return tried.idempotent and (callee is None or callee.idempotent)

    def ask(self, now: float) -> None:
        """Ask all services again if it is time to."""
        if now >= self._next and self.ready:
            self._ask(now)

    def forget(self, peer: Peer) -> None:
        """Forget an instance where nobody listens: it has ended, or is cut off from here."""
        place = peer.project, peer.id
        if self.peers.get(place) is peer:
            self._forget_at(place)
        self._next = min(self._next, clock() + SOON_SECONDS)

    def ask_soon(self) -> None:
        """Ask soon, because the connection is lost: announcements are missed, and instances may be on their way back, too."""
        self._next, self._unsure_until = 0.0, clock() + BACK_SECONDS

    def take_out(self, pattern: str, peer: Peer) -> None:
        """Remove an instance from a function, because it does not answer on that pattern any more."""
        peer.patterns.discard(pattern)
        callee = self.callees.get((peer.project, pattern))
        if callee is not None and callee.peers.get(peer.id) is peer:
            del callee.peers[peer.id]
            self._refresh(callee)

    def callees_of(self, peer: Peer) -> list[Callee]:
        """The functions for which an instance answers."""
        return [self.callees[peer.project, pattern] for pattern in peer.patterns]

    def _ask(self, now: float) -> None:
        if self._connection.is_connected:  # without a connection the question would be dropped
            self._forget_silent(now)
            self.round += 1
            self._next = now + (SOON_SECONDS if now < self._unsure_until else ASK_SECONDS)
            self._connection.wire.publish(_ASK, b"", self._inbox)

    def _is_ready(self) -> None:
        self.ready = True
        for _, heard in self._hopeful:
            if not heard.done():
                heard.set_result(None)
        self._hopeful.clear()

    def _forget_silent(self, now: float) -> None:
        """Forget instances that were silent for two rounds. If all were silent, we may lack the right to ask, and none is forgotten."""
        if self.round - self._answered_in < SILENT_ROUNDS:
            for place, peer in list(self.peers.items()):
                if self.round - peer.told_in >= SILENT_ROUNDS and now - peer.told_at >= ASK_SECONDS:
                    self._forget_at(place)

    def _answered(self, subject: bytes, _reply: bytes, header: bytes | None, body: bytes) -> None:
        if subject != _NEWS:
            self._answered_in = self.round
        if header is not None and not body:  # no responders: there is no service at all
            self._is_ready()
            return
        info = tolerant.read(service.read_info, body, "what a service tells of itself")
        if info is None:
            return
        if not info.ours:
            return
        self._heard(info, news=subject == _NEWS)
        for awaited, heard in self._hopeful:
            if not heard.done() and self.callee(awaited) is not None:
                heard.set_result(None)

    def _heard(self, info: Info, *, news: bool) -> None:
        """Take in what an instance has told of itself."""
        place = info.name, info.id
        if news and not info.gone:
            self._goodbyes.pop(place, None)
        if info.gone or not info.endpoints:
            self._goodbyes[place] = None
            if len(self._goodbyes) > MOST_GOODBYES:
                del self._goodbyes[next(iter(self._goodbyes))]
            self._forget_at(place)
        elif place not in self._goodbyes and (place in self.peers or len(self.peers) < MOST_PEERS):
            if self._told.get(place) != info:
                self._learn(place, info)
            peer = self.peers[place]
            peer.told_in, peer.told_at = self.round, clock()

    def _learn(self, place: tuple[str, str], info: Info) -> None:
        self._told[place] = info
        peer = self.peers.get(place)
        if peer is None:
            peer = self.peers[place] = Peer(*place)
        peer.weight = info.weight
        peer.idempotent = frozenset(each.subject for each in info.endpoints if each.idempotent)
        here = {each.subject: each for each in info.endpoints if each.queue_group == service.QUEUE}
        for pattern, endpoint in here.items():
            key = info.name, pattern
            if key not in self.callees:
                if len(self.callees) >= MOST_CALLEES:
                    continue
                self.callees[key] = Callee(info.name, pattern, endpoint.name)
            self.callees[key].peers[info.id] = peer
            peer.patterns.add(pattern)
        for callee in self.callees_of(peer):
            if callee.pattern in here:
                self._refresh(callee)
            else:
                self.take_out(callee.pattern, peer)

    def _forget_at(self, place: tuple[str, str]) -> None:
        self._told.pop(place, None)
        peer = self.peers.pop(place, None)
        if peer is None:
            return
        if peer.outstanding:
            self._leaving.append(peer)
        for callee in self.callees_of(peer):
            self.take_out(callee.pattern, peer)

    def _refresh(self, callee: Callee) -> None:
        """Update a function whose instances, weights or idempotence have changed."""
        self._found.clear()
        key = callee.project, callee.pattern
        if self.callees.get(key) is not callee:
            return
        if not callee.peers:
            del self.callees[key]
            return
        weights = {name: peer.weight for name, peer in callee.peers.items()}
        callee.balancer.update(weights, clock())
        callee.idempotent = all(callee.pattern in peer.idempotent for peer in callee.peers.values())


def _literal(pattern: str) -> tuple[int, ...]:
    """Sort key of patterns: at the first token that differs, a name comes before `*`, and `*` before `>`."""
    return tuple({"*": 1, ">": 0}.get(token, 2) for token in pattern.split("."))
