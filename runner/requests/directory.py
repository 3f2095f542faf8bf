"""The directory: which instances answer which subjects, by what they tell of themselves.

All of them are asked at the first request, and every 30 s from then on; between, they tell when they come, change and go.
A subject that no instance of ours has told of is asked as any NATS client would: whoever listens there answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from runner.core import service
from runner.core.service import Info
from runner.core.subject import matches
from runner.jetstream import tolerant
from runner.jetstream.connection import Connection
from runner.requests.peer import Peer
from runner.requests.target import Target

ASK_SECONDS = 30.0
SOON_SECONDS = 1.0
"""After an instance was not there: it may have been cut off only."""
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
        self._told: dict[tuple[str, str], Info] = {}
        self._found: dict[bytes, Target | None] = {}
        self._inbox = b""
        self._next = 0.0
        self._opening: asyncio.Future[None] | None = None
        self._ready = False
        self._hopeful: list[tuple[bytes, asyncio.Future[None]]] = []
        """First requests that wait to hear who answers them."""

    async def wait(self, subject: bytes) -> None:
        """At the beginning, wait to hear of somebody who answers on a subject: 100 ms at most."""
        if self._ready:
            return
        loop = asyncio.get_running_loop()
        if self._opening is None:
            self._opening = loop.create_future()
            try:
                await self._open()
            except BaseException:
                opening, self._opening = self._opening, None
                opening.cancel()
                raise
            self._opening.set_result(None)
            loop.call_later(FIRST_SECONDS, self._is_ready)
        else:
            await asyncio.shield(self._opening)
        if self.target(subject) is None:
            heard = loop.create_future()
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

    def ask(self, now: float) -> None:
        """Ask all services once more, where it is time to."""
        if self._ready and now >= self._next:
            self._ask(now)

    def remove(self, peer: Peer) -> None:
        """Nobody listens at an instance: it is gone, or cut off from here."""
        self._forget((peer.project, peer.id))
        self._next = min(self._next, clock() + SOON_SECONDS)

    def doubt(self) -> None:
        """Ask all soon: while there was no connection, news were missed."""
        self._next = 0.0

    def leave(self, target: Target, peer: Peer) -> None:
        """An instance does not answer for this function any more."""
        target.peers.pop(peer.id, None)
        self._changed(lambda _: False, peer.id)

    async def _open(self) -> None:
        wire = self._connection.wire
        inbox = self._connection.new_inbox()
        self._inbox = inbox.encode()
        await wire.subscribe(inbox, self._answered)
        await wire.subscribe(service.NEWS, self._answered)
        self._ask(clock())

    def _ask(self, now: float) -> None:
        self._next = now + ASK_SECONDS
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
            self._forget(place)
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
        here = {each.subject: each for each in info.endpoints if each.queue_group == service.QUEUE}
        for pattern, endpoint in here.items():
            key = info.name, pattern
            if key not in self.targets:
                self.targets[key] = Target(info.name, pattern, endpoint.name)
            self.targets[key].peers[info.id] = peer
        self._changed(lambda target: target.project == info.name and target.pattern not in here, info.id)

    def _forget(self, place: tuple[str, str]) -> None:
        self._told.pop(place, None)
        self.peers.pop(place, None)
        self._changed(lambda target: target.project == place[0], place[1])

    def _changed(self, lost: Callable[[Target], bool], instance: str) -> None:
        now = clock()
        self._found.clear()
        for key, target in list(self.targets.items()):
            if lost(target):
                target.peers.pop(instance, None)
            if not target.peers:
                del self.targets[key]
                continue
            target.balancer.update({name: peer.weight for name, peer in target.peers.items()}, now)
            target.idempotent = all(self._says(target, name) for name in target.peers)

    def _says(self, target: Target, instance: str) -> bool:
        info = self._told[target.project, instance]
        return any(each.idempotent for each in info.endpoints if each.subject == target.pattern)


def _literal(pattern: str) -> tuple[int, ...]:
    """Orders patterns: at the first token that differs, a name comes before `*`, and that before `>`."""
    return tuple({"*": 1, ">": 0}.get(token, 2) for token in pattern.split("."))
