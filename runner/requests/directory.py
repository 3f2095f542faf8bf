"""The directory: which instances answer which subjects, by what they tell of themselves.

All of them are asked at the first request, and every 30 s from then on; between, they tell when they come, change and go.
A subject that no instance of ours has told of is asked as any NATS client would: whoever listens there answers.
"""

from __future__ import annotations

import asyncio
import time

from runner.core import service
from runner.core.service import Info
from runner.core.subject import matches
from runner.jetstream import tolerant
from runner.jetstream.connection import Connection
from runner.requests.peer import Peer
from runner.requests.request import Try
from runner.requests.target import Target

ASK_SECONDS = 30.0
SOON_SECONDS = 1.0
"""After an instance was not there, and after a lost connection: who is back, or was cut off only, is asked soon."""
BACK_SECONDS = 5.0
"""So long after the connection was lost instances may be on their way back, too."""
FIRST_SECONDS = 0.1
"""Longest time that the first requests wait to hear who answers them."""
MOST_SUBJECTS = 10_000
"""So many subjects are remembered with their target."""
MOST_PEERS = 5_000
"""So many instances are remembered: another one is asked as any client would, until one of them is forgotten."""
MOST_TARGETS = 10_000
"""So many functions, too."""
MOST_GOODBYES = 1_000
SILENT_ROUNDS = 2
"""An instance that has not told of itself when all were asked so often is forgotten."""
_ASK = b"$SRV.INFO"
_NEWS = service.NEWS.encode()

clock = time.monotonic


class Directory:
    """Who answers what."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.targets: dict[tuple[str, str], Target] = {}
        """By project and pattern."""
        self.peers: dict[tuple[str, str], Peer] = {}
        """By project and instance."""
        self._leaving: list[Peer] = []
        """Those that are forgotten, and have not answered all that they were asked."""
        self._goodbyes: dict[tuple[str, str], None] = {}
        """Those that take no more requests: what they tell of themselves afterwards was sent before, or is the truth of before."""
        self.round = 0
        """How often all of them were asked."""
        self._answered_in = 0
        """The last round that was answered."""
        self._told: dict[tuple[str, str], Info] = {}
        self._found: dict[bytes, Target | None] = {}
        self._inbox = b""
        self._next = self._unsure_until = 0.0
        self.ready = False
        """Whether the first requests have waited long enough to hear who answers."""
        self._hopeful: list[tuple[bytes, asyncio.Future[None]]] = []
        """First requests that wait to hear who answers them."""

    async def open(self) -> None:
        """Listen to what instances tell, and ask all of them."""
        wire = self._connection.wire
        inbox = self._connection.new_inbox()
        self._inbox = inbox.encode()
        await wire.subscribe(inbox, self._answered)
        await wire.subscribe(service.NEWS, self._answered)
        self._ask(clock())
        asyncio.get_running_loop().call_later(FIRST_SECONDS, self._is_ready)

    @property
    def is_unsure(self) -> bool:
        """Whether the connection was lost a moment ago: that nobody is there says nothing yet."""
        return clock() < self._unsure_until

    def asked(self) -> list[Peer]:
        """Instances that may have requests, those that are forgotten included."""
        self._leaving = [each for each in self._leaving if each.outstanding]
        return [*self.peers.values(), *self._leaving]

    async def wait(self, subject: bytes) -> None:
        """After the opening, wait to hear of somebody who answers on a subject: 100 ms at most."""
        if not self.ready and self.target(subject) is None:
            heard = asyncio.get_running_loop().create_future()
            self._hopeful.append((subject, heard))
            await heard

    def target(self, subject: bytes) -> Target | None:
        """Who answers on a subject; of several the one whose pattern has the longest beginning without a wildcard."""
        try:
            return self._found[subject]
        except KeyError:
            text = subject.decode(errors="surrogateescape")
            fitting = [each for each in self.targets.values() if each.peers and matches(each.pattern, text)]
            found = max(fitting, key=lambda each: _literal(each.pattern), default=None)
            if len(self._found) >= MOST_SUBJECTS:
                self._found.clear()
            self._found[subject] = found
            return found

    def may_repeat(self, tried: Try) -> bool:
        """Whether a try that may have begun may run again elsewhere: its instance said so, and those that would get it do."""
        target = self.target(tried.request.subject)
        return tried.idempotent and (target is None or target.idempotent)

    def ask(self, now: float) -> None:
        """Ask all services once more, where it is time to."""
        if now >= self._next and self.ready:
            self._ask(now)

    def forget(self, peer: Peer) -> None:
        """Nobody listens at an instance: it has ended, or is cut off from here."""
        place = peer.project, peer.id
        if self.peers.get(place) is peer:
            self._forget_at(place)
        self._next = min(self._next, clock() + SOON_SECONDS)

    def ask_soon(self) -> None:
        """There is no connection: news are missed, and on the next one instances may be on their way back, too."""
        self._next, self._unsure_until = 0.0, clock() + BACK_SECONDS

    def take_out(self, pattern: str, peer: Peer) -> None:
        """An instance does not answer on these subjects any more."""
        peer.patterns.discard(pattern)
        target = self.targets.get((peer.project, pattern))
        if target is not None and target.peers.get(peer.id) is peer:
            del target.peers[peer.id]
            self._refresh(target)

    def targets_of(self, peer: Peer) -> list[Target]:
        """The functions that an instance answers for."""
        return [self.targets[peer.project, pattern] for pattern in peer.patterns]

    def _ask(self, now: float) -> None:
        if self._connection.is_connected:  # else it would be dropped
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
        """Forget instances that told nothing of themselves for two rounds; where nobody did, we may not ask, or not hear."""
        if self.round - self._answered_in < SILENT_ROUNDS:
            for place, peer in list(self.peers.items()):
                if self.round - peer.told_in >= SILENT_ROUNDS and now - peer.told_at >= ASK_SECONDS:
                    self._forget_at(place)

    def _answered(self, subject: bytes, _reply: bytes, header: bytes | None, body: bytes) -> None:
        if subject != _NEWS:
            self._answered_in = self.round
        if header is not None and not body:  # nobody answers: there is no service at all
            self._is_ready()
            return
        info = tolerant.read(service.read_info, body, "what a service tells of itself")
        if info is None:
            return
        if not info.ours:
            return
        self._heard(info, news=subject == _NEWS)
        for awaited, heard in self._hopeful:
            if not heard.done() and self.target(awaited) is not None:
                heard.set_result(None)

    def _heard(self, info: Info, *, news: bool) -> None:
        """An instance has told of itself."""
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
            if key not in self.targets:
                if len(self.targets) >= MOST_TARGETS:
                    continue
                self.targets[key] = Target(info.name, pattern, endpoint.name)
            self.targets[key].peers[info.id] = peer
            peer.patterns.add(pattern)
        for target in self.targets_of(peer):
            if target.pattern in here:
                self._refresh(target)
            else:
                self.take_out(target.pattern, peer)

    def _forget_at(self, place: tuple[str, str]) -> None:
        self._told.pop(place, None)
        peer = self.peers.pop(place, None)
        if peer is None:
            return
        if peer.outstanding:
            self._leaving.append(peer)
        for target in self.targets_of(peer):
            self.take_out(target.pattern, peer)

    def _refresh(self, target: Target) -> None:
        """Other instances answer for it, or weigh or say something else."""
        self._found.clear()
        key = target.project, target.pattern
        if self.targets.get(key) is not target:
            return
        if not target.peers:
            del self.targets[key]
            return
        weights = {name: peer.weight for name, peer in target.peers.items()}
        target.balancer.update(weights, clock())
        target.idempotent = all(target.pattern in peer.idempotent for peer in target.peers.values())


def _literal(pattern: str) -> tuple[int, ...]:
    """Orders patterns: at the first token that differs, a name comes before `*`, and that before `>`."""
    return tuple({"*": 1, ">": 0}.get(token, 2) for token in pattern.split("."))
