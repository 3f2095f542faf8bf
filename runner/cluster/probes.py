"""Probes: each instance asks, at intervals, the next two on the ring of names whether they live.

So the number of probes grows with the number of instances, not with its square. If the server has no responder for an instance,
an inquest follows (`inquest.py`): a single probe proves nothing.
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
"""For so long after our own reconnect no inquest begins: the others may still be reconnecting."""
BUSY = b"+"
"""The answer of an instance that has work."""


class Probes:
    """Sends probes at intervals; `missed(instance)` is called when the server has no responder for an instance."""

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
        """When an answering instance last had work."""
        self._epoch = connection.wire.epoch
        self._grace = 0.0

    async def run(self) -> None:
        """Send probes at intervals until cancelled."""
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
        """Send a probe, without waiting for the last one's answer: a probe that reached a dying process gets none."""
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
        """Answer another instance that asks whether this one lives."""
        if reply:
            busy = time.monotonic() - self._pings.worked < BUSY_SECONDS
            self._connection.answer(reply, BUSY if busy else b"")
