"""The lease of this instance: how it is renewed, and whether messages may start while it lasts (`core/lease.py` has the rules).

A renewal is a compare-and-set on the revision of the last one. If it is refused, another instance has declared this one dead, or
the bucket has lost the lease. Then the instance writes a new lease, and starts no ordered message before all its claims are confirmed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from math import inf

import anyio
import msgspec

from runner.cluster.member import Member, read_member
from runner.cluster.pings import Pings
from runner.core.checked import Unfit
from runner.core.lease import CLAIMS_SECONDS, Lease, bound
from runner.core.news import News
from runner.errors import JetrunnerError, NoStream, ServerError
from runner.jetstream import ownstreams
from runner.jetstream.kv import KV
from runner.jetstream.publisher import unled
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.members")

RENEW_SECONDS = 1.0
AGAIN_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0
"""The longest pause before a bucket that cannot be made is asked for again."""
KEPT = "5s"
"""The server keeps an unrenewed lease for longer than it lasts, so that an instance that has judged it still finds its revision."""
SILENT_SECONDS = 1.0
GONE = "60s"
"""A lease that was given back, or of a dead instance, stays so long for later readers."""


class Membership:
    """Keeps the lease, and says whether ordered work may start: the pipeline's `StartGuard`."""

    def __init__(self, runtime: Runtime, me: Member, key: str) -> None:
        self.me = me
        self.state = Lease()
        self.began: list[Callable[[], None]] = []
        """Callbacks, called when this instance has a new lease: the claims of its shards have to be confirmed."""
        self.told: list[Callable[[], None]] = []
        """Callbacks, called when `until` may have changed."""
        self.left = False
        """True once the lease was given back."""
        self.pings = Pings(runtime.connection, self._pinged)
        self.disputed: set[str] = set()
        """Shards held here whose claims others have tried to write: nothing starts before their owner is known."""
        self._key = key
        self._connection = runtime.connection
        self._wire = runtime.connection.wire
        self._kv = KV(runtime.connection)
        self._revision = 0
        """The revision of the lease in the bucket; 0 if a new lease has to be written."""
        self._confirmed = 0
        """`Member.written` of the last write that was confirmed."""
        self._epoch = -1
        """The connection that the lease was last renewed on."""
        self.until = -inf
        """Until when ordered work may start, as far as is known now."""
        self._may = asyncio.Event()
        self._due = asyncio.Event()
        self._writing = asyncio.Lock()

    # -- what it allows ---------------------------------------------------------------------------------

    def works(self, now: float) -> None:
        """There is ordered work here at this reading of the monotonic clock: pings go on."""
        self.pings.worked = now

    def may_start(self, now: float) -> bool:
        """Whether this instance may start ordered work; `now` is a reading of the monotonic clock from a moment ago."""
        self.works(now)
        return now < self.until

    def lease_valid(self, now: float) -> bool:
        """Whether messages may be asked for: the lease is ours on this connection, and the claims were confirmed."""
        return now < self.state.asks_until and self._epoch == self._wire.epoch

    @property
    def leaving(self) -> bool:
        """Whether this instance hands its shards over."""
        return self.me.leaving

    def why(self, now: float) -> str:
        """Why no message may start, in words; empty if messages may start, or none has asked to."""
        if self._epoch != self._wire.epoch or not self._connection.is_connected:
            return "the connection to NATS is lost, and the lease not renewed on another"
        if now >= self.state.until:
            return "the lease of this instance has run out"
        if not self.state.claims_current:
            return "the claims of this instance are not confirmed"
        if now >= self.state.read + CLAIMS_SECONDS:
            return f"the claims of this instance were not found as it wrote them for {CLAIMS_SECONDS:.0f} s"
        if self.disputed:
            return f"it is being asked whose {', '.join(sorted(self.disputed))} is"
        if self.pings.waiting and now - self.state.answered > SILENT_SECONDS:
            return "the server answers no ping of this instance"
        return ""

    @property
    def lease_current(self) -> bool:
        """Whether the lease was renewed on this connection and has not run out."""
        return self._epoch == self._wire.epoch and time.monotonic() < self.state.until

    async def wait(self) -> None:
        """Wait until ordered work may start."""
        self.pings.waiting += 1
        try:
            while not self.may_start(time.monotonic()):
                self.pings.ask()
                await self._may.wait()
        finally:
            self.pings.waiting -= 1

    def confirm(self, began: float) -> None:
        """All claims were confirmed, by requests sent from that moment on."""
        self.state = self.state.claims_confirmed(began)
        self._update()

    def read(self, sent: float) -> None:
        """All claims stood as they were written, by requests sent from that moment on."""
        self.state = self.state.claims_read(sent)
        self._update()

    def dispute(self, shard: str) -> None:
        """Another instance has tried to write the claim of a shard that is held here."""
        self.disputed.add(shard)
        self._update()

    def resolve(self, shard: str) -> None:
        """The owner of a disputed shard is known."""
        if shard in self.disputed:
            self.disputed.discard(shard)
            self._update()

    def _pinged(self, sent: float, epoch: int) -> None:
        if epoch == self._epoch == self._wire.epoch:
            self.state = self.state.pinged(sent)
            self._update()

    def _update(self) -> None:
        self.until = self.state.starts_until if not self.disputed else -inf
        for told in self.told:
            told()
        if self.pings.waiting and self.until > -inf:
            may, self._may = self._may, asyncio.Event()
            may.set()

    # -- how it is kept ---------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Renew at once: another instance may have declared this one dead."""
        self._due.set()

    async def run(self) -> None:
        """Renew each second, and at once after a reconnect, until cancelled."""
        news, wait = News(), AGAIN_SECONDS
        while not self.left:
            try:
                await self.renew()
            except NoStream:
                try:
                    await ownstreams.restore(self._connection, ownstreams.BUCKET_STREAM)
                except JetrunnerError as error:
                    news.warn(log, "the lease could not be renewed: %s", error)
                    waits = isinstance(error, ServerError) and unled(error)  # as for an election
                    wait = AGAIN_SECONDS if waits else min(LONGEST_WAIT_SECONDS, 2 * wait)
                else:
                    wait = AGAIN_SECONDS
                await anyio.sleep(wait)
                continue
            except ServerError as error:
                news.warn(log, "the lease could not be renewed: %s", error)
                await anyio.sleep(AGAIN_SECONDS)
                continue
            news.over()
            wait = AGAIN_SECONDS
            await self._pause()

    async def _pause(self) -> None:
        due = time.monotonic() + RENEW_SECONDS
        epoch = self._wire.epoch
        while time.monotonic() < due and epoch == self._wire.epoch and not self._due.is_set():
            await anyio.sleep(0.02)
        self._due.clear()
        while not self._connection.is_connected:
            await anyio.sleep(0.01)

    async def renew(self) -> None:
        """Renew the lease once, or write a new one. Raises `ServerError` if that fails."""
        async with self._writing:
            if not self.left:
                await self._renew()

    async def _renew(self) -> None:
        if self._epoch != self._wire.epoch:
            self.state = self.state.disconnected()
            self._update()
        sent, epoch = time.monotonic(), self._wire.epoch
        self._say(server=self._connection.server_id, bound=bound(self.pings.round_trip))
        me = self.me
        self.state = self.state.renewing(me.bound)
        if self._revision:
            revision = await self._kv.swap(self._key, msgspec.json.encode(me), self._revision, KEPT)
            if revision is None:
                await self._refused()
                return
            lease = self.state.renewed(sent, time.monotonic(), me.bound)
        else:
            revision = await self._kv.put(self._key, msgspec.json.encode(me), KEPT)
            lease = self.state.began(sent, time.monotonic(), me.bound)
        again, self.state = lease.since != self.state.since, lease
        self._revision, self._confirmed, self._epoch = revision, me.written, epoch
        self._update()
        if again:
            for callback in self.began:
                callback()

    async def _refused(self) -> None:
        """A renewal was refused: an earlier one was stored whose answer was lost, or the lease is no longer ours."""
        value, revision = await self._kv.leader(self._key)
        try:
            found = read_member(value) if revision else None
        except Unfit:
            found = None
        if found is not None and found.state == "alive" and found.written > self._confirmed:
            self._revision = revision  # the next renewal names it, and is refused if there is a later one
            self._due.set()
            return
        log.warning(
            "other instances took this one for dead, or the bucket lost its lease: it confirms its claims again"
        )
        self._revision = 0
        self.state = self.state.lost()
        self._update()
        self._due.set()

    def _say(self, **changes: object) -> None:
        self.me = msgspec.structs.replace(self.me, written=self.me.written + 1, **changes)

    async def retire(self) -> None:
        """Write into the lease that others may take our shards, each as soon as it is released."""
        self.me = msgspec.structs.replace(self.me, leaving=True)
        try:
            await self.renew()
        except ServerError as error:
            log.debug("the lease was not renewed before leaving: %s", error)

    async def leave(self) -> None:
        """Give the lease back; our shards have been released."""
        self.left = True
        self.state = self.state.lost()
        self._update()
        async with self._writing:
            self._say(state="left")
            try:
                await self._kv.swap(self._key, msgspec.json.encode(self.me), self._revision, GONE)
            except ServerError as error:
                log.debug("the lease could not be deleted, and expires by itself: %s", error)
