"""Which instances of a project that run ordered functions are alive, by their leases in the bucket.

Rule 1: only the bucket is believed. An announcement is a hint to read the bucket, and no more.
Rule 2: an instance is dead once its lease says so. Another instance writes that if it has proof (`inquest.py`), or has seen the
        lease unchanged for longer than a lease lasts: by compare-and-set on the revision that it has judged.
Rule 3: a claim whose owner has no lease is a reason to look for that owner, not to take the claim.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence

import anyio
import msgspec

from runner.cluster import inquest
from runner.cluster.member import Member, read_member
from runner.cluster.membership import GONE, RENEW_SECONDS, Membership
from runner.cluster.probes import Probes
from runner.core import identity
from runner.core.death import Sighting
from runner.core.lease import LONGEST_BOUND_SECONDS
from runner.errors import ServerError
from runner.jetstream import tolerant
from runner.jetstream.kv import KV, Entry
from runner.jetstream.publisher import retry_until
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.members")

READ_SECONDS = 0.5
"""Leases are read this often while there are others."""
ALONE_SECONDS = 2.0
HINT_SECONDS = 0.005
"""The shortest pause between two reads of the leases, however often changes are announced."""


class Members:
    """The living instances, as this instance sees them."""

    def __init__(self, runtime: Runtime, functions: Sequence[str], instance: str) -> None:
        self._runtime = runtime
        self._connection = runtime.connection
        self._wire = runtime.connection.wire
        self._project = runtime.project
        self._kv = KV(runtime.connection)
        self.own = Membership(runtime, Member(instance, tuple(functions)), self._key(instance))
        self.living: dict[str, Member] = {instance: self.me}
        self.changed: list[Callable[[], None]] = []
        """Callbacks, called when an instance came or went."""
        self._sightings: dict[str, Sighting] = {}
        self._records: dict[str, Member] = {}
        """The values of the other instances' leases."""
        self._epoch = self._wire.epoch
        self._inquests: set[str] = set()
        self._hint = asyncio.Event()
        self._probes = Probes(
            runtime.connection, runtime.project, instance, self.own.pings, lambda: self.living, self._missed
        )
        self._news = f"jetrunner.{runtime.project}.members".encode()

    @property
    def me(self) -> Member:
        """The value of our own lease."""
        return self.own.me

    def _key(self, instance: str) -> str:
        return identity.lease_key(self._project, instance)

    # -- life -------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Answer the instances that ask whether this process lives."""
        await self._wire.subscribe(
            identity.alive_subject(self._project, self.me.instance), self._probes.asked
        )

    async def join(self) -> None:
        """Take the lease, read the others' leases, and announce the change."""
        await self._wire.subscribe(self._news.decode(), lambda *_: self._hint.set())
        await self.own.pings.measure()
        await retry_until(self.own.renew, math.inf, "the lease")
        await retry_until(self.read, math.inf, "the leases")
        self._say()

    async def retire(self) -> None:
        """Announce that others may take our shards, each as soon as it is released."""
        await self.own.retire()
        self._set()
        self._say()

    async def leave(self) -> None:
        """Give the lease back; our shards have been released."""
        await self.own.leave()
        self._say()

    async def run(self) -> None:
        """Renew, probe and read until cancelled."""
        self.own.began += [self._say, self._anew]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.own.run)
            tasks.start_soon(self._probes.run)
            tasks.start_soon(self._reading)

    def _anew(self) -> None:
        """Read the leases of all instances again, after ours was lost: those read before may be of an older bucket."""
        self._epoch = -1
        self._hint.set()

    def _say(self) -> None:
        """Have all instances read the leases; the announcement itself is empty."""
        self._wire.publish(self._news, b"", b"")

    # -- what others see --------------------------------------------------------------------------------

    def buried(self, instance: str) -> int | None:
        """The revision at which an instance was declared dead, or has left; None if it is not known to be dead."""
        seen = self._sightings.get(instance)
        return seen.revision if seen is not None and seen.dead else None

    def gone(self, instance: str, claimed: int) -> bool:
        """Whether the owner of a claim of that revision has died since; if not, and it does not live, it is looked for."""
        buried = self.buried(instance)
        if buried is not None and buried > claimed:
            return True
        if instance not in self.living:
            self.question(instance, claimed)
        return False

    def question(self, instance: str, claimed: int) -> None:
        """Look for the owner of a claim of that revision, which has no lease, or was declared dead before the claim."""
        seen, now = self._sightings.get(instance), time.monotonic()
        if seen is None:
            self._sightings[instance] = Sighting(0, now)
            self._hint.set()
        elif seen.dead and seen.revision < claimed:
            self._sightings[instance] = Sighting(seen.revision, now)
            self._look_into(instance)

    # -- reading ----------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Read every lease."""
        if self._epoch != self._wire.epoch:  # the bucket may be an older one
            self._epoch = self._wire.epoch
            self._sightings.clear()
        entries = await self._kv.read([self._key("*")])
        now = time.monotonic()
        found: dict[str, tuple[Entry, Member]] = {}
        for key, entry in entries.items():
            member = tolerant.read(read_member, entry.value, key)
            if member is not None and self._key(member.instance) != key:
                tolerant.pass_over(key, "it stands under another name")
            elif member is not None:
                found[member.instance] = entry, member
        for instance in found.keys() | self._sightings.keys():
            self._see(instance, found.get(instance), now)
        self._set()

    def _see(self, instance: str, found: tuple[Entry, Member] | None, now: float) -> None:
        before = self._sightings.get(instance)
        if found is None:
            if before is not None and before.revision and not before.dead:
                self._sightings[instance] = Sighting(0, now, before.bound)
            return
        entry, member = found
        if instance == self.me.instance:
            if member.state != "alive":
                self.own.hurry()  # another instance has declared this one dead
        elif before is None or entry.revision > before.revision:
            self._sightings[instance] = Sighting(entry.revision, now, member.bound, member.state != "alive")
            self._records[instance] = member

    def _set(self) -> None:
        living = {self.me.instance: self.me}
        for instance, seen in list(self._sightings.items()):
            member = self._records.get(instance)
            if not seen.dead and member is not None and member.state == "alive":
                living[instance] = member
        if living != self.living:
            self.living = living
            for callback in self.changed:
                callback()

    async def _reading(self) -> None:
        while True:
            others = len(self._sightings) > sum(seen.dead for seen in self._sightings.values())
            try:
                async with asyncio.timeout(READ_SECONDS if others else ALONE_SECONDS):
                    await self._hint.wait()
            except TimeoutError:
                pass
            self._hint.clear()
            if self._connection.is_connected and not self.own.left:
                try:
                    await self.read()
                    await self._bury_those_that_stand_still()
                    await self._stand_in()
                except ServerError as error:
                    log.debug("leases could not be read: %s", error)
            await anyio.sleep(HINT_SECONDS)

    # -- the dead ---------------------------------------------------------------------------------------

    async def _stand_in(self) -> None:
        """Write leases in place of missing ones, because a judgement needs a revision (`core/death.py`, rule 4)."""
        for instance, seen in list(self._sightings.items()):
            vanished = instance in self._records  # the instance may be about to write its lease again
            early = vanished and time.monotonic() - seen.seen < RENEW_SECONDS
            if seen.revision or seen.dead or early:
                continue
            member = Member(instance, (), bound=LONGEST_BOUND_SECONDS)
            revision = await self._kv.swap(self._key(instance), msgspec.json.encode(member), 0, GONE)
            if revision is not None:
                self._sightings[instance] = Sighting(revision, time.monotonic(), member.bound)
                self._records[instance] = member
                self._look_into(instance)

    async def _bury_those_that_stand_still(self) -> None:
        for instance, seen in list(self._sightings.items()):
            if seen.ran_out(time.monotonic()):
                await self._bury(instance, seen, "its lease has run out")

    def _near(self, instance: str) -> bool:
        """Whether an instance is, or was, at our own server: then "no responders" is proof enough."""
        member = self._records.get(instance)
        server = member.server if member is not None else ""
        return server == self._connection.server_id or (not server and not self._connection.clustered)

    def _missed(self, instance: str) -> None:
        if instance in self.living:
            self._look_into(instance)

    def _look_into(self, instance: str) -> None:
        if instance not in self._inquests and not self.own.left:
            self._inquests.add(instance)
            self._runtime.tasks.start_soon(self._inquest, instance)

    async def _inquest(self, instance: str) -> None:
        try:
            await self.read()  # the lease that is judged is older than the first probe
            seen, member = self._sightings.get(instance), self._records.get(instance)
            if seen is None or seen.dead or not seen.revision:
                return
            server = member.server if member is not None else ""
            near = self._near(instance)
            if not near and not server:
                return  # no witness is known: its lease decides
            others = (name for name, each in self.living.items() if each.server == server)
            witness = next((name for name in others if name not in (instance, self.me.instance)), "")
            if await inquest.is_dead(
                self._connection, self._project, instance,
                near=near, witness=witness, bound=seen.bound,
            ):  # fmt: skip
                await self._bury(instance, seen, "its connection is gone")
        except ServerError as error:
            log.debug("cannot check whether instance %s lives: %s", instance, error)
        finally:
            self._inquests.discard(instance)

    async def _bury(self, instance: str, seen: Sighting, why: str) -> None:
        key = self._key(instance)
        value = msgspec.json.encode(Member(instance, (), state="dead"))
        revision = await self._kv.swap(key, value, seen.revision, GONE)
        if revision is None:
            return  # it has renewed its lease, or another instance was faster, and says so
        log.warning("instance %s is gone: %s", instance, why)
        self._sightings[instance] = Sighting(revision, time.monotonic(), seen.bound, dead=True)
        self._records.pop(instance, None)
        self._say()
        self._set()
