"""Which shards this instance owns: it takes what is its share, and hands over what is not.

No instance leads. Each computes the same share for everybody from the same list of members (`core/assignment.py`), takes
the claims of its own share whose owner is gone, and lets go of what belongs to another: the other then takes it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from runner.core.assignment import assign
from runner.core.takeover import Decision, HandOver, Lose, Release, Take, decide
from runner.engine.claims import NOBODY, Claim, Claims
from runner.engine.fence import Tenure
from runner.engine.generations import Generations
from runner.engine.members import Members
from runner.engine.process import Process
from runner.errors import JetrunnerError

if TYPE_CHECKING:
    from runner.engine.ordered import OrderedFunction
    from runner.engine.shard import Shard

log = logging.getLogger("jetrunner.shards")

RETRY_SECONDS = 0.25


class Shards:
    """All shards of all ordered functions of this process."""

    def __init__(self, process: Process, members: Members, functions: list[OrderedFunction]) -> None:
        self.claims = Claims(process.connection, process.project)
        self.owned: dict[str, Shard] = {}
        self._process = process
        self._members = members
        self._functions = {function.binding.function: function for function in functions}
        self._held: dict[str, Claim] = {}
        self._moving: set[str] = set()
        """Shards that are being taken or handed over right now."""
        self.needed = bool(functions)
        self.left = False
        """True once every shard was handed over and the lease given back."""
        self._changed = asyncio.Event()
        self._generations = Generations(process, members, functions, self._changed.set)
        members.changed.append(self._changed.set)
        members.lapsed.append(self._changed.set)

    async def start(self) -> None:
        """Join, read the claims and watch them."""
        await self._members.join()
        await self.claims.watch(self._written)
        await self._generations.start()
        sent = time.monotonic()
        await self.claims.load(self._generations.names())
        self._members.confirm(sent)
        self._changed.set()

    async def run(self) -> None:
        """Take and hand over, whenever something has changed, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._members.run)
            tasks.start_soon(self._generations.run)
            while True:
                try:
                    async with asyncio.timeout(1.0):
                        await self._changed.wait()
                except TimeoutError:
                    await self._look()
                self._changed.clear()
                if not self._process.connection.is_connected:
                    continue
                if not self._members.confirmed:
                    await self._confirm()
                    continue
                for name, share in self._shares().items():
                    if name not in self._moving:
                        self._act(tasks, name, self._decide(name, share, self.claims.known.get(name, NOBODY)))
                moving = {name.partition(".")[0] for name in self._moving}
                for function in self._functions.keys() - moving:
                    self._functions[function].tell()

    def _act(self, tasks: TaskGroup, name: str, decision: Decision) -> None:
        match decision:
            case Take():
                way = self._take
            case HandOver():
                way = self._hand_over
            case Release():
                way = self._give_back
            case Lose():  # that was only heard, or read from a replica
                way = self._check
            case _:
                return
        self._moving.add(name)
        tasks.start_soon(way, name)

    def _decide(self, name: str, share: str, claim: Claim) -> Decision:
        held = self._held.get(name)
        return decide(
            claim.owner,
            claim.epoch,
            me=self._members.me.instance,
            held=held.epoch if held is not None else None,
            share=share,
            gone=claim.owner not in self._members.living,
        )

    async def _look(self) -> None:
        """Read the claims of shards that should be here and are not: a release may not have been heard."""
        if not self._process.connection.is_connected or not self._members.confirmed:
            return
        lacking = {
            name.rpartition(".")[0]
            for name, share in self._shares().items()
            if share == self._members.me.instance and name not in self.owned and name not in self._moving
        }
        try:
            await self.claims.load(sorted(lacking))
        except JetrunnerError as error:
            log.debug("claims could not be looked at: %s", error)

    def _shares(self) -> dict[str, str]:
        """Who should own every shard of our functions, and every other that is held here: nobody, when it has closed."""
        shares = dict.fromkeys(self.owned, "")
        for function in self._functions.values():
            able = sorted(
                name
                for name, member in self._members.living.items()
                if function.binding.function in member.functions and not member.leaving
            )
            names = function.shard_names()
            owners = {name: claim.owner for name in names if (claim := self.claims.known.get(name))}
            share = assign(names, able, owners)
            shares.update((name, share.get(name, "")) for name in names)
        return shares

    async def _take(self, name: str) -> None:
        function = self._functions[name.partition(".")[0]]
        try:
            me = self._members.me.instance
            claim = await self.claims.take(name, me, partial(self._decide, name, me))
            if claim is not None and not await self._generations.confirmed(function, generation_of(name)):
                await self.claims.release(name, claim)
            elif claim is not None and self.claims.known[name] == claim:  # nobody has taken it meanwhile
                shard = self.owned[name] = function.shard(name)
                self._held[name] = claim
                await shard.open(
                    Tenure(
                        claim, partial(self.claims.stands, name, claim), partial(self._refused, name, claim)
                    )
                )
        except JetrunnerError as error:
            log.warning("shard %s could not be taken: %s", name, error)
            await self._drop(name)
            await anyio.sleep(RETRY_SECONDS)
        finally:
            self._moving.discard(name)
            self._changed.set()

    async def _hand_over(self, name: str) -> None:
        """What runs ends here; what waits starts at its new owner's. Other shards go on meanwhile."""
        try:
            shard = self.owned.get(name)
            if shard is None:
                return  # it was lost in this very moment
            await shard.drain()
            await self._drop(name)
            await shard.remember_last()
            self._functions[name.partition(".")[0]].forget(name)
        except JetrunnerError as error:
            log.warning("shard %s could not be handed over: %s", name, error)
        finally:
            self._moving.discard(name)
            self._changed.set()

    async def _give_back(self, name: str) -> None:
        try:
            await self.claims.release(name, self.claims.known[name])
            await self.claims.standing(name)
        except JetrunnerError as error:
            log.debug("the claim of shard %s is given back later: %s", name, error)
            await anyio.sleep(RETRY_SECONDS)
        finally:
            self._moving.discard(name)
            self._changed.set()

    async def _drop(self, name: str) -> None:
        shard, claim = self.owned.pop(name, None), self._held.pop(name, None)
        if shard is not None and shard.owned:
            shard.lose()
        if claim is not None:
            try:
                if not await self.claims.release(name, claim) and shard is not None and not shard.owned:
                    shard.send_back()
            except JetrunnerError as error:
                # It stays ours in the bucket; `run` takes it anew, or whoever finds us gone.
                log.warning("the claim of shard %s could not be given back: %s", name, error)

    async def leave(self) -> None:
        """The process ends: each shard goes as soon as its own handlers have ended, and then the lease."""
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

    def _written(self, name: str, doubtful: bool) -> None:
        held = self._held.get(name)
        if doubtful or (held is not None and self.claims.known[name].owner != held.owner):
            if held is not None:
                self.owned[name].ordering.hold()
                self._members.dispute(+1)  # nothing starts before it is known whose it is
            self._process.tasks.start_soon(self._verify, name, held is not None)
        self._changed.set()

    async def _verify(self, name: str, disputed: bool = False) -> None:
        """Somebody wrote a claim: ask whose the shard is now."""
        try:
            standing = await self.claims.standing(name)
        except JetrunnerError as error:
            log.debug("the claim of shard %s cannot be read: %s", name, error)
            await anyio.sleep(RETRY_SECONDS / 5)
            self._process.tasks.start_soon(self._verify, name, disputed)
            return
        held = self._held.get(name)
        if isinstance(self._decide(name, "", standing), Lose):
            self._lose(name)
        elif held is not None and self.owned[name].owned:
            self.owned[name].doubt()
        if disputed:
            self._members.dispute(-1)
        self._changed.set()

    async def _check(self, name: str) -> None:
        try:
            await self._verify(name)
        finally:
            self._moving.discard(name)

    def _lose(self, name: str) -> None:
        self._held.pop(name, None)
        shard = self.owned.pop(name, None)
        if shard is not None:
            shard.lose()

    def _refused(self, name: str, claim: Claim) -> None:
        """An output of that tenure was refused, and its claim does not stand."""
        if self._held.get(name) == claim:
            self._lose(name)
        self._changed.set()

    async def _confirm(self) -> None:
        """After a lost connection or a lapsed lease: keep what is still ours, and take it up again in order."""
        sent = time.monotonic()
        if not self._members.renewed:
            await anyio.sleep(0.02)
            self._changed.set()
            return
        owned = {name.rpartition(".")[0] for name in self.owned}
        try:
            await self.claims.load(sorted({*owned, *self._generations.names()}))
            held = list(self._held.items())
            # The bucket's leader is asked: a replica may not know yet who took a shard meanwhile.
            stand = await asyncio.gather(*(self.claims.stands(name, claim) for name, claim in held))
            for (name, claim), stands in zip(held, stand, strict=True):
                if not stands and self._held.get(name) == claim:
                    self._lose(name)
        except JetrunnerError as error:
            log.warning("claims could not be read again: %s", error)
            await anyio.sleep(0.1)
        else:
            for shard in self.owned.values():
                if shard.owned:
                    shard.doubt()
            self._members.confirm(sent)
        self._changed.set()


def generation_of(name: str) -> int:
    """The generation in a shard's name."""
    return int(name.split(".")[1])
