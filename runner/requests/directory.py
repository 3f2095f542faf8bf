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
_ASK = b"$SRV.INFO"

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
        self._told: dict[tuple[str, str], Info] = {}
        self._found: dict[bytes, Target | None] = {}
        self._inbox = b""
        self._next = self._unsure_until = 0.0
        self._ready = False
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
        if not self._ready and self.target(subject) is None:
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
        if now >= self._next and self._ready:
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

    def take_out(self, target: Target, peer: Peer) -> None:
        """An instance does not answer for this function any more."""
        self._drop(target, peer.id)

    def _ask(self, now: float) -> None:
        if self._connection.is_connected:  # else it would be dropped
            self._next = now + (SOON_SECONDS if now < self._unsure_until else ASK_SECONDS)
            self._connection.wire.publish(_ASK, b"", self._inbox)

    def _is_ready(self) -> None:
        self._ready = True
        for _, heard in self._hopeful:
            if not heard.done():
                heard.set_result(None)
        self._hopeful.clear()

    def _answered(self, _subject: bytes, _reply: bytes, header: bytes | None, body: bytes) -> None:
        if header is not None and not body:  # nobody answers: there is no service at all
            self._is_ready()
            return
        info = tolerant.read(service.read_info, body, "what a service tells of itself")
        if info is None:
            return
        if not info.ours:
            return
        place = info.name, info.id
        if info.gone:
            self._forget_at(place)
        elif self._told.get(place) != info and (place in self.peers or len(self.peers) < MOST_PEERS):
            self._learn(place, info)
        for subject, heard in self._hopeful:
            if not heard.done() and self.target(subject) is not None:
                heard.set_result(None)

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
                self.targets[key] = Target(info.name, pattern, endpoint.name)
            self.targets[key].peers[info.id] = peer
        for target in self._targets_of(place):
            if target.pattern in here:
                self._refresh(target)
            else:
                self._drop(target, info.id)

    def _forget_at(self, place: tuple[str, str]) -> None:
        self._told.pop(place, None)
        peer = self.peers.pop(place, None)
        if peer is not None and peer.outstanding:
            self._leaving.append(peer)
        for target in self._targets_of(place):
            self._drop(target, place[1])

    def _targets_of(self, place: tuple[str, str]) -> list[Target]:
        """Those that an instance answers for."""
        project, instance = place
        return [each for each in self.targets.values() if each.project == project and instance in each.peers]

    def _drop(self, target: Target, instance: str) -> None:
        """An instance answers for it no more."""
        target.peers.pop(instance, None)
        self._refresh(target)

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
