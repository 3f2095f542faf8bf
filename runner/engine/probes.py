"""Probes: each instance asks the next two on the ring of names whether they live, on the clock.

Rule 1: two "no responders" in a row mean that the server has lost the instance's connection. So probes grow with n, not
        with n².
Rule 2: of an instance at another server they mean it only while somebody else at that server answers: otherwise it may
        be the way between the two servers that is gone, and its lease tells.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING

import anyio

from runner.core.assignment import successors
from runner.engine.member import News
from runner.errors import NoStream, ServerError
from runner.jetstream.connection import Connection

if TYPE_CHECKING:
    from runner.engine.members import Members

log = logging.getLogger("jetrunner.members")

BUSY_PROBE_SECONDS = 0.03
IDLE_PROBE_SECONDS = 0.5
PROBE_TIMEOUT_SECONDS = 1.0
PROBED = 2
MISS_SECONDS = 0.045
"""Between the first answer "no responders" and the sending of a probe that has the same answer: this means death."""
STALE_SECONDS = 1.0
"""After so long a first miss counts no more: whoever it was about was not probed meanwhile."""
BUSY_SECONDS = 1.0
"""Probes are frequent for so long after the last work."""
BUSY = b"+"
"""The answer of an instance that has work."""


class Probes:
    """Finds out who is gone, and tells the members."""

    def __init__(self, connection: Connection, members: Members) -> None:
        self.worked = 0.0
        """When there was last work here."""
        self.grace = 0.0
        """Nobody is taken for dead before: we have just connected."""
        self.silent: set[str] = set()
        """Instances whose last probe had no answer at all."""
        self._connection = connection
        self._members = members
        self._probed = 0.0
        """When the last probes were sent."""
        self._saw_work = 0.0
        """When there was last work at one that answered."""
        self._misses: dict[str, float] = {}
        """When nobody answered for an instance at first."""
        self._heard: dict[str, float] = {}
        """When the last answered probe was sent to a server, by its id."""

    def forgive(self, until: float) -> None:
        """Begin anew after our own reconnect: nobody is taken for dead before `until`."""
        self.grace = until
        self._misses.clear()

    def forget(self, instance: str) -> None:
        """It is gone."""
        self._misses.pop(instance, None)
        self.silent.discard(instance)
        servers = {member.server for member in self._members.living.values()}
        self._heard = {server: sent for server, sent in self._heard.items() if server in servers}

    async def run(self) -> None:
        """Probe on the clock until cancelled."""
        next_at = time.monotonic()
        while True:
            next_at = max(next_at + BUSY_PROBE_SECONDS, time.monotonic())
            await anyio.sleep(max(0.0, next_at - time.monotonic()))
            now = time.monotonic()
            busy = now - max(self.worked, self._saw_work) < BUSY_SECONDS
            if self._connection.is_connected and (busy or now - self._probed >= IDLE_PROBE_SECONDS):
                self._probed = now
                for instance in successors(sorted(self._members.living), self._members.me.instance, PROBED):
                    self._probe(instance)

    def _probe(self, instance: str) -> None:
        """Sent on the clock, never after the last one's answer: one that reached a dying process has none."""
        wire, inbox = self._connection.wire, self._connection.inbox
        subject = self._members.alive(instance).encode()
        probe = (instance, time.monotonic(), wire.epoch)
        reply = inbox.expect(self._answered, probe, subject, PROBE_TIMEOUT_SECONDS)
        wire.publish(subject, b"", reply)

    def _answered(
        self, probe: tuple[str, float, int], _: bytes | None, body: bytes, error: ServerError | None
    ) -> None:
        instance, sent, epoch = probe
        now = time.monotonic()
        if error is None:
            self._misses.pop(instance, None)
            self.silent.discard(instance)
            if (member := self._members.living.get(instance)) is not None:
                self._heard[member.server] = max(sent, self._heard.get(member.server, 0.0))
            if body == BUSY:
                self._saw_work = now
        elif epoch != self._connection.wire.epoch or now < self.grace or instance not in self._members.living:
            pass  # it is our own connection that was lost, or theirs is on its way back as ours was
        elif not isinstance(error, NoStream):
            self.silent.add(instance)
        elif sent - self._misses.get(instance, -math.inf) > STALE_SECONDS:
            self._misses[instance] = now
            asyncio.get_running_loop().call_later(MISS_SECONDS, self._probe_again, instance)
        elif sent - self._misses[instance] < MISS_SECONDS:
            pass
        elif not self._reached(instance):
            self.silent.add(instance)
        else:
            log.warning("instance %s is gone", instance)
            self._members.tell(News(dead=instance))
            self._members.remove(instance)

    def _probe_again(self, instance: str) -> None:
        """With somebody else at its server, if that is another than ours: the way there may be gone."""
        server = self._server_of(instance)
        others = (name for name in self._members.living if name != instance)
        witness = next((name for name in others if self._server_of(name) == server), None)
        if witness is not None and server != self._connection.server_id:
            self._probe(witness)
        if instance in self._members.living:
            self._probe(instance)

    def _reached(self, instance: str) -> bool:
        """Whether the server of a silent instance has been reached since its silence began."""
        server = self._server_of(instance)
        return server == self._connection.server_id or self._heard.get(server, 0.0) > self._misses[instance]

    def _server_of(self, instance: str) -> str:
        member = self._members.living.get(instance)
        return member.server if member is not None else ""

    def probed(self, _subject: bytes, reply: bytes, _header: bytes | None, _body: bytes) -> None:
        """Somebody asks whether we live."""
        if reply and not self._members.left:
            busy = time.monotonic() - self.worked < BUSY_SECONDS
            self._connection.wire.publish(reply, BUSY if busy else b"", b"")
