"""Probes: each instance asks the next two on the ring of names whether they live, on the clock.

So probes grow with the number of instances, not with its square. An instance for which no answer comes is looked into
(`inquest.py`); a single missing answer proves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import anyio

from runner.cluster.pings import BUSY_SECONDS, Pings
from runner.core import identity
from runner.core.assignment import successors
from runner.errors import NoStream, ServerError
from runner.jetstream.connection import Connection

BUSY_PROBE_SECONDS = 0.03
IDLE_PROBE_SECONDS = 0.5
TIMEOUT_SECONDS = 1.0
PROBED = 2
GRACE_SECONDS = 1.0
"""After our own reconnect the others may still be on their way back: nobody is looked into before."""
BUSY = b"+"
"""The answer of an instance that has work."""


class Probes:
    """Asks on the clock; `missed(instance)` is called when no connection of that name is at the server."""

    def __init__(
        self,
        connection: Connection,
        project: str,
        me: str,
        pings: Pings,
        living: Callable[[], Collection[str]],
        missed: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._project = project
        self._me = me
        self._pings = pings
        self._living = living
        self._missed = missed
        self._probed = 0.0
        """When the last probes were sent."""
        self._saw_work = 0.0
        """When there was last work at one that answered."""
        self._epoch = connection.wire.epoch
        self._grace = 0.0

    async def run(self) -> None:
        """Probe on the clock until cancelled."""
        next_at = time.monotonic()
        while True:
            next_at = max(next_at + BUSY_PROBE_SECONDS, time.monotonic())
            await anyio.sleep(max(0.0, next_at - time.monotonic()))
            now = time.monotonic()
            busy = now - max(self._pings.worked, self._saw_work) < BUSY_SECONDS
            if self._connection.is_connected and (busy or now - self._probed >= IDLE_PROBE_SECONDS):
                self._probed = now
                for instance in successors(sorted(self._living()), self._me, PROBED):
                    self._probe(instance, now)

    def _probe(self, instance: str, now: float) -> None:
        """Sent on the clock, never after the last one's answer: one that reached a dying process has none."""
        wire = self._connection.wire
        if wire.epoch != self._epoch:
            self._epoch, self._grace = wire.epoch, now + GRACE_SECONDS
        subject = identity.alive_subject(self._project, instance).encode()
        reply = self._connection.inbox.expect(
            self._answered, (instance, wire.epoch), subject, TIMEOUT_SECONDS
        )
        wire.publish(subject, b"", reply)

    def _answered(
        self, probe: tuple[str, int], _: bytes | None, body: bytes, error: ServerError | None
    ) -> None:
        instance, epoch = probe
        now = time.monotonic()
        if error is None:
            if body == BUSY:
                self._saw_work = now
        elif isinstance(error, NoStream) and epoch == self._connection.wire.epoch and now >= self._grace:
            self._missed(instance)

    def asked(self, _subject: bytes, reply: bytes, _header: bytes | None, _body: bytes) -> None:
        """Another instance asks whether this one lives."""
        if reply:
            busy = time.monotonic() - self._pings.worked < BUSY_SECONDS
            self._connection.answer(reply, BUSY if busy else b"")
