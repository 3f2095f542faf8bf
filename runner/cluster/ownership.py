"""Which shards this instance owns: it takes the shards of its share, and hands over all others.

No instance leads. Each computes the same shares for all from the same list of members (`core/assignment.py`). It takes the shards
of its own share whose owner is dead, and releases those of another's share, which that instance then takes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial

import anyio
from anyio.abc import TaskGroup

from runner.cluster.claims import Claims
from runner.cluster.generations import Generations
from runner.cluster.holdings import Holdings
from runner.cluster.members import Members
from runner.cluster.shares import View
from runner.core.claim import Claim
from runner.core.news import News
from runner.core.takeover import Bury, Confirm, Decision, HandOver, Release, Take, Vacate
from runner.errors import JetrunnerError
from runner.ordered.functionshards import FunctionShards
from runner.ordered.shard import Shard
from runner.pipeline.fence import ShardOwnership
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.shards")

RETRY_SECONDS = 0.25
TURN_SECONDS = 0.5


class Ownership:
    """All shards of all ordered functions of this process."""

    def __init__(self, runtime: Runtime, members: Members, functions: list[FunctionShards]) -> None:
        self.claims = Claims(runtime.connection, runtime.project)
        self.owned: dict[str, Shard] = {}
        self._runtime, self._members, self._own = runtime, members, members.own
        self._news = News()
        self._functions = {function.binding.function: function for function in functions}
        self._held = Holdings(self.claims, members.own, self._lose)
        self._view = View(members, self.claims, functions)
        self._halted: set[str] = set()
        """Shards that start nothing until their claims are confirmed."""
        self._moving: set[str] = set()
        """Shards that are being taken, confirmed or handed over now."""
        self.needed = bool(functions)
        self.left = False
        """True once every shard was handed over and the lease given back."""
        self._changed = asyncio.Event()
        self._generations = Generations(runtime, members, functions, self._reread)
        members.changed.append(self._changed.set)
        members.own.began.append(self._changed.set)

    def _reread(self) -> None:
        """The open generation has changed: read all claims."""
        self.claims.reread()
        self._changed.set()

    async def start(self) -> None:
        """Join the members, watch the claims, and read the generations."""
        await self._members.join()
        await self.claims.watch(self._heard)
        await self._generations.start()
        self._changed.set()

    async def run(self) -> None:
        """Take and hand over shards whenever something has changed, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._members.run)
            tasks.start_soon(self._generations.run)
            while True:
                try:
                    async with asyncio.timeout(TURN_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                self._changed.clear()
                if not self._own.lease_current:
                    continue
                try:
                    if not self._own.state.claims_current:
                        await self._confirm()
                    sent = time.monotonic()
                    found = await self.claims.refresh(self._generations.names(), self._view.names)
                    if found is not None:
                        starting = [name for name, shard in self.owned.items() if shard.life.owned]
                        self._own.read(self._held.look(sent, found, starting))
                    self._news.over()
                except JetrunnerError as error:
                    self._news.warn(log, "claims could not be read: %s", error)
                    await anyio.sleep(RETRY_SECONDS / 2)
                    self._changed.set()
                    continue
                self._act(tasks)

    def _act(self, tasks: TaskGroup) -> None:
        """Decide about every shard that is not moving."""
        for name, share in self._view.shares(self.owned).items():
            if name in self._moving:
                continue
            disputed = name in self._own.disputed or name in self._halted
            way = self._way(name, self._view.decide(name, share, self._held.get(name), disputed=disputed))
            if way is not None:
                self._moving.add(name)
                tasks.start_soon(way, name)
        moving = {name.partition(".")[0] for name in self._moving}
        for each in self._functions.keys() - moving:
            self._functions[each].tell()
        moves = [
            name for name in self._moving if not (name in self.owned and self.owned[name].lanes.unsettled)
        ]
        for function in self._functions.values():
            function.standstill.look(self._view.standing(function, moves), time.monotonic())

    def _way(self, name: str, decision: Decision) -> Callable[[str], Coroutine[object, object, None]] | None:
        match decision:
            case Vacate():
                return partial(self._write, self.claims.vacate)
            case Take():
                return self._take
            case HandOver():
                return self._hand_over
            case Release():
                return partial(self._write, self.claims.release)
            case Confirm():
                return self._check
            case Bury():
                known = self.claims.known[name]
                self._members.question(known.claim.owner, known.revision)
        return None

    # -- moves ------------------------------------------------------------------------------------------

    async def _take(self, name: str) -> None:
        function, since, sent = self._function(name), self._own.state.since, time.monotonic()
        try:
            held = await self.claims.take(name, self._members.me.instance)
            if held is None:
                self.claims.distrust(name)
            elif not await self._is_open(name):
                await self.claims.release(name, held)
            elif self._own.state.since == since and self.claims.known.get(name) is held:
                # The shard is ours, and our lease has lasted all the time: this claim counts as confirmed.
                self._held.hold(name, held, sent)
                shard = self.owned[name] = function.shard(name)
                claim = held.claim
                stands, end = partial(self._held.stands, name, claim), partial(self._refused, name, claim)
                await shard.open(ShardOwnership(claim, stands, end))
                self._news.over(name)
        except JetrunnerError as error:
            self._news.warn(log, "shard %s could not be taken: %s", name, error, about=name)
            await self._drop(name)
            self.claims.distrust(name)
            await anyio.sleep(RETRY_SECONDS)
        finally:
            self._moved(name)

    def _function(self, name: str) -> FunctionShards:
        return self._functions[name.partition(".")[0]]

    async def _is_open(self, name: str) -> bool:
        return await self._generations.confirmed(self._function(name), int(name.split(".")[1]))

    def _moved(self, name: str) -> None:
        self._moving.discard(name)
        self._changed.set()

    async def _hand_over(self, name: str) -> None:
        """Hand a shard over: running messages end here, waiting ones start at the new owner. Other shards go on meanwhile."""
        try:
            shard = self.owned.get(name)
            if shard is None:
                return  # it was lost in this moment
            await shard.drain()
            await self._drop(name)
            await shard.floor.remember_last()
            self._function(name).forget(name)
        except JetrunnerError as error:
            log.warning("shard %s could not be handed over: %s", name, error)
        finally:
            self._moved(name)

    async def _write(self, write: Callable[[str], Awaitable[object]], name: str) -> None:
        """Write a claim that is not held; the result is read later."""
        try:
            if not await write(name):
                self.claims.distrust(name)
                await anyio.sleep(RETRY_SECONDS)  # the claim may have been read from a replica that is behind
        except JetrunnerError as error:
            log.debug("the claim of shard %s could not be written; it is tried again: %s", name, error)
            await anyio.sleep(RETRY_SECONDS)
        finally:
            self._moved(name)

    async def _drop(self, name: str) -> None:
        """Release a shard that is held here; afterwards its claim is free, or another instance's."""
        shard = self.owned.pop(name, None)
        self._resolve(name)
        if shard is not None and shard.life.owned:
            shard.lose()
        if name not in self._held:
            return
        try:
            released = await self._held.release(name)
        except JetrunnerError as error:
            # It stays ours in the bucket: `run` gives it back, or takes it.
            self.claims.distrust(name)
            log.warning("the claim of shard %s could not be given back: %s", name, error)
        else:
            if not released:
                self.claims.distrust(name)
                if shard is not None and not shard.life.owned:
                    shard.lanes.unowned.send_back()

    async def leave(self) -> None:
        """The process ends: hand over each shard as soon as its handlers have ended, then give the lease back."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._members.retire)
            for name in list(self.owned):
                if name not in self._moving:
                    self._moving.add(name)
                    tasks.start_soon(self._hand_over, name)
        while self._moving or self.owned:  # one that was just being taken is handed over by `run`
            await anyio.sleep(0.01)
        await self._members.leave()
        self.left = True

    # -- doubt ------------------------------------------------------------------------------------------

    def _heard(self, name: str, owner: str) -> None:
        """An instance has written a shard's claim, or tried to: read the claim, unless this instance wrote it."""
        shard = self.owned.get(name)
        if owner != self._members.me.instance and shard is not None and shard.life.owned:
            shard.lanes.ordering.hold()
            self._own.dispute(name)
        elif owner == self._members.me.instance and (name in self._held or name in self._moving):
            return
        self.claims.distrust(name)
        self._changed.set()

    async def _check(self, name: str) -> None:
        """A claim was read that differs from ours: nothing of its shard starts before the owner is known."""
        try:
            shard, held = self.owned.get(name), self._held.get(name)
            if shard is not None and held is not None:
                shard.lanes.ordering.hold()
                self._halted.add(name)  # until `doubt` below, whatever is read meanwhile
                stands = await self._held.stands(name, held.claim)
                self._resolve(name)
                self.claims.reread()  # so that the held claims are soon found as written
                if stands:
                    shard.doubt()
        except JetrunnerError as error:
            log.debug("the claim of shard %s cannot be confirmed: %s", name, error)
            await anyio.sleep(RETRY_SECONDS / 5)
        finally:
            self._moved(name)

    def _resolve(self, name: str) -> None:
        self._halted.discard(name)
        self._own.resolve(name)

    def _lose(self, name: str) -> None:
        """Another instance owns the shard, or may own it."""
        self._held.forget(name)
        shard = self.owned.pop(name, None)
        self._resolve(name)
        if shard is not None:
            shard.lose()
        self.claims.distrust(name)
        self._changed.set()

    def _refused(self, name: str, claim: Claim) -> None:
        """An output of an ownership was refused, and the ownership's claim does not stand."""
        held = self._held.get(name)
        if held is not None and held.claim == claim:
            self._lose(name)
        self._changed.set()

    async def _confirm(self) -> None:
        """After a new lease: keep the shards whose claims still name this instance, and recover their messages. Raises JetrunnerError."""
        began = time.monotonic()
        self.claims.forget()
        for shard in self.owned.values():
            shard.lanes.ordering.hold()
        await self._held.confirm()
        await self.claims.refresh(self._generations.names(), self._view.names)
        for shard in self.owned.values():
            shard.doubt()
        self._own.confirm(began)
        for function in self._functions.values():  # the bucket may have lost more than the lease
            self._runtime.tasks.start_soon(function.rewrite)
