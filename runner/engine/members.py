"""Who is alive: the instances of a project that run ordered functions, seen the same way by all of them.

Rule 1: an instance holds one lease of 3 s and renews it each second. It may start ordered work until the lease runs
        out by its own clock, counted from sending the renewal, and only while it is connected.
Rule 2: it answers on a subject of its own, and the others probe it (`probes.py`): who is found gone is so at once.
Rule 3: so it starts nothing unless its loop has looked at its sockets a moment ago, less than the time between those two
        probes: the server, which found the connection gone, has ended it, and that has been read.
Rule 4: who finds a member dead says so to all; who joins or leaves says so itself. All leases are read every few seconds,
        in case nobody could say anything.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence

import anyio
import msgspec

from runner.core.checked import Unfit
from runner.core.takeover import Lease
from runner.engine.member import Member, News, read_member, read_news
from runner.engine.probes import Probes
from runner.engine.process import Process
from runner.engine.pulse import STALL_SECONDS, Pulse
from runner.errors import NoStream, ServerError
from runner.jetstream import ownstreams
from runner.jetstream.lease import Leases
from runner.jetstream.publisher import insist
from runner.jetstream.stray import pass_over

log = logging.getLogger("jetrunner.members")

TTL_SECONDS = 3.0
RENEW_SECONDS = 1.0
READ_SECONDS = 3.0
GRACE_SECONDS = 1.0
"""After our own reconnect: the others may still be on their way back."""
DOUBT_SECONDS = 0.2
"""Leases are read this often while a member is silent or its lease is missing."""


class Members:
    """The living, as this instance sees them."""

    def __init__(self, process: Process, functions: Sequence[str], instance: str) -> None:
        self.me = Member(instance, tuple(functions))
        self.living: dict[str, Member] = {instance: self.me}
        self.lease = Lease()
        """Our own."""
        self.changed: list[Callable[[], None]] = []
        """Called when somebody came or went."""
        self.lapsed: list[Callable[[], None]] = []
        """Called when our own lease may have run out, or the connection was lost: nothing may start."""
        self._process = process
        self._connection = process.connection
        self._wire = process.connection.wire
        self._project = process.project
        self._leases = Leases(process.connection)
        self._probes = Probes(process.connection, self)
        self._absent: set[str] = set()
        """Instances without a lease in the last reading."""
        self._joined: dict[str, float] = {}
        """When instances were last heard to join."""
        self._pulse = Pulse(process.loop, self._wake)
        self._news = f"jetrunner.{process.project}.members".encode()
        self._disputes = 0
        self.left = False
        """True once our lease was given back."""
        self._epoch = -1
        """The connection that the lease was last renewed on."""
        self._held = asyncio.Event()
        self._buried: dict[str, float] = {}
        """Instances found dead, and until when their leases may still stand there."""

    def alive(self, instance: str) -> str:
        """The subject an instance answers on."""
        return f"jetrunner.{self._project}.alive.{instance}"

    def _key(self, instance: str) -> str:
        return f"member.{self._project}.{instance}"

    def holds(self, now: float) -> bool:
        """Whether this instance may start ordered work now, by the monotonic clock read a moment ago."""
        self._probes.worked = now
        return now - self._pulse.looked < STALL_SECONDS and not self._disputes and self.lasts(now)

    def lasts(self, now: float) -> bool:
        """Whether the lease lasts, and what we own was read since it was taken: without that, nothing is asked for."""
        return self._epoch == self._wire.epoch and self.lease.may_start(now)

    @property
    def confirmed(self) -> bool:
        """Whether our claims were read since the connection or the lease was last lost."""
        return self.renewed and self.lease.since <= self.lease.read

    @property
    def renewed(self) -> bool:
        """Whether the lease is ours, on this connection."""
        return self._epoch == self._wire.epoch and time.monotonic() < self.lease.until

    def confirm(self, sent: float) -> None:
        """Our claims were read again, by requests sent from that moment on."""
        self.lease = self.lease.claims_read(sent)
        self._wake()

    def dispute(self, more: int) -> None:
        """Claims of ours that somebody has written: nothing starts, of any shard, until it was asked whose they are."""
        self._disputes += more
        self._wake()

    def _wake(self) -> None:
        held, self._held = self._held, asyncio.Event()
        held.set()

    async def wait(self) -> None:
        """Wait until ordered work may start."""
        while not self.holds(time.monotonic()):
            await self._held.wait()

    # -- life -------------------------------------------------------------------------------------------

    async def join(self) -> None:
        """Take the lease, answer probes, and tell everybody."""
        self._pulse.start()
        await self._wire.subscribe(self.alive(self.me.instance), self._probes.probed)
        await self._wire.subscribe(self._news.decode(), self._heard)
        await insist(self.renew, math.inf, "the lease")
        await insist(self.read, math.inf, "the leases")
        self.tell(News(joined=self.me))

    async def retire(self) -> None:
        """Tell everybody that our shards are to be had, each as soon as it is released."""
        self.me = msgspec.structs.replace(self.me, leaving=True)
        self._set({**self.living, self.me.instance: self.me})
        self.tell(News(joined=self.me))
        try:
            await self.renew()
        except ServerError as error:
            log.debug("the lease was not renewed for leaving: %s", error)

    async def leave(self) -> None:
        """Give the lease back and tell everybody; our shards have been released."""
        self.left = True
        try:
            await self._connection.api(
                f"STREAM.PURGE.{ownstreams.BUCKET_STREAM}",
                {"filter": f"$KV.{ownstreams.BUCKET}.{self._key(self.me.instance)}"},
            )
        except ServerError as error:
            log.debug("the lease runs out by itself: %s", error)
        self.tell(News(left=self.me.instance))

    async def run(self) -> None:
        """Renew, probe and read until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._renewing)
            tasks.start_soon(self._probes.run)
            tasks.start_soon(self._reading)

    async def renew(self) -> None:
        """Renew the lease once; raises `ServerError` when it could not be."""
        sent = time.monotonic()
        epoch = self._wire.epoch
        if self.me.server != self._connection.server_id:
            self.me = msgspec.structs.replace(self.me, server=self._connection.server_id)
            self._set({**self.living, self.me.instance: self.me})
        await self._leases.put(self._key(self.me.instance), msgspec.json.encode(self.me), TTL_SECONDS)
        before = self.lease if epoch == self._epoch else self.lease.disconnected()
        self.lease = before.renewed(sent, time.monotonic(), TTL_SECONDS)
        self._epoch = epoch
        if self.lease.since != before.since:
            self._lapse()  # somebody may have taken our shards meanwhile

    async def _renewing(self) -> None:
        while True:
            if self._connection.is_connected and not self.left:
                again = self._epoch != self._wire.epoch
                try:
                    await self.renew()
                    if again:
                        self._probes.forgive(time.monotonic() + GRACE_SECONDS)
                        self.tell(News(joined=self.me))
                except NoStream:
                    await self._mend()
                    continue
                except ServerError as error:
                    log.warning("the lease could not be renewed: %s", error)
                    await anyio.sleep(0.1)
                    continue
            await self._pause()

    async def _pause(self) -> None:
        """Until the next renewal is due: at once after a reconnect."""
        due = time.monotonic() + RENEW_SECONDS
        epoch = self._wire.epoch
        while time.monotonic() < due and epoch == self._wire.epoch:
            await anyio.sleep(0.05)
        while not self._connection.is_connected:
            await anyio.sleep(0.01)

    def _lapse(self) -> None:
        for callback in self.lapsed:
            callback()

    async def _mend(self) -> None:
        try:
            await ownstreams.ensure(self._connection, ownstreams.BUCKET_STREAM)
        except ServerError as error:
            log.warning("the bucket is gone and cannot be made: %s", error)
        await anyio.sleep(0.1)

    # -- others -----------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Look at every lease."""
        began = time.monotonic()
        entries = await self._leases.read([self._key("*")])
        self._buried = {name: until for name, until in self._buried.items() if time.monotonic() <= until}
        found = {self.me.instance: self.me}
        for key, entry in entries.items():
            try:
                member = read_member(entry.value)
            except Unfit as error:
                pass_over(key, error)
                continue
            # What the lease says of ourselves may be older than what we know.
            if member.instance not in self._buried and member.instance != self.me.instance:
                found[member.instance] = member
        # A lease may be younger than the answer, and a replica's answer older than the lease: once is no proof.
        absent = self.living.keys() - found.keys()
        kept = {
            name
            for name in absent
            if name not in self._absent or began < max(self._probes.grace, self._joined.get(name, 0.0))
        }
        self._absent = absent
        self._set({**found, **{name: self.living[name] for name in kept if name in self.living}})

    async def _reading(self) -> None:
        while True:
            due = time.monotonic() + READ_SECONDS
            await anyio.sleep(DOUBT_SECONDS)
            while (
                time.monotonic() < due and not self._absent and not self._probes.silent & self.living.keys()
            ):
                await anyio.sleep(DOUBT_SECONDS)
            if self._connection.is_connected:
                try:
                    await self.read()
                except ServerError as error:
                    log.debug("leases could not be read: %s", error)

    def tell(self, news: News) -> None:
        """Say it to all."""
        self._wire.publish(self._news, msgspec.json.encode(news), b"")

    def _heard(self, _subject: bytes, _reply: bytes, _header: bytes | None, body: bytes) -> None:
        try:
            news = read_news(body)
        except Unfit as error:
            pass_over("what is said to the members", error)
            return
        if news.joined is not None:
            self._buried.pop(news.joined.instance, None)
            self._joined[news.joined.instance] = time.monotonic()
            self._set({**self.living, news.joined.instance: news.joined})
        gone = news.left or news.dead
        if gone and gone != self.me.instance:
            self.remove(gone)
        elif gone and not self.left:
            log.warning("others took this instance for dead; what it owns is read again")
            self.lease = self.lease.doubted(time.monotonic())
            self._lapse()
            self.tell(News(joined=self.me))

    def remove(self, instance: str) -> None:
        """Count an instance out; its lease may still stand for a while."""
        self._buried[instance] = time.monotonic() + TTL_SECONDS
        self._probes.forget(instance)
        self._joined.pop(instance, None)
        self._set({name: member for name, member in self.living.items() if name != instance})

    def _set(self, living: dict[str, Member]) -> None:
        if living != self.living:
            self.living = living
            for callback in self.changed:
                callback()
