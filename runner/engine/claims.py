"""Claims: who owns which shard, one key of the bucket each, taken by compare-and-set and never renewed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from runner.core import checked
from runner.core.checked import Count, Instance, Owner, Unfit, UnixTime
from runner.core.takeover import Decision, Take
from runner.jetstream.connection import Connection
from runner.jetstream.lease import Leases
from runner.jetstream.wire import Unsubscribe

REMEMBERED = 4
"""Earlier owners that a claim names: each may have put settlements on record that a killed server forgot."""


class Claim(msgspec.Struct, frozen=True):
    """A shard's owner, empty once it was released; the epoch rises with every owner."""

    owner: Owner
    epoch: Count
    since: UnixTime
    """Unix time."""
    before: Annotated[tuple[Instance, ...], Meta(max_length=64)] = ()
    """Who owned it before, the last one first."""


NOBODY = Claim("", 0, 0.0)
_decode = checked.json(Claim)


class Claims:
    """The claims of one project. A shard's name here is `<function>.<generation>.<number>`."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._leases = Leases(connection)
        self._prefix = f"claim.{project}."
        self.known: dict[str, Claim] = {}
        """As last seen; a write must name the revision it read."""

    async def watch(self, changed: Callable[[str, bool], None]) -> Unsubscribe:
        """Learn of every change from now on: the shard's name, and whether `known` is in doubt and must be `read`.

        Everybody hears of a write, also of one that the server refused since another was faster.
        """

        def written(key: str, value: bytes) -> None:
            shard = key.removeprefix(self._prefix)
            claim, before = read(value), self.known.get(shard, NOBODY)
            if claim.epoch > before.epoch or (claim.epoch == before.epoch and not claim.owner):
                self.known[shard] = claim
                changed(shard, False)
            elif claim.epoch == before.epoch and claim.owner != before.owner:
                changed(shard, True)

        return await self._leases.watch(self._prefix + ">", written)

    async def load(self, generations: Sequence[str]) -> None:
        """Read the claims of these generations, each `<function>.<generation>`; one that is not there is nobody's."""
        for generation in generations:
            before = {name: claim for name, claim in self.known.items() if name.startswith(f"{generation}.")}
            found = {
                key.removeprefix(self._prefix): read(entry.value)
                for key, entry in (await self._leases.read([f"{self._prefix}{generation}.*"])).items()
            }
            for shard in {*before, *found}:
                self._learn(shard, before.get(shard), found.get(shard, NOBODY))

    def _learn(self, shard: str, before: Claim | None, found: Claim) -> None:
        """Take what was read, unless something newer was heard meanwhile."""
        if self.known.get(shard) is before:
            self.known[shard] = found

    async def take(self, shard: str, me: str, decide: Callable[[Claim], Decision]) -> Claim | None:
        """Make it mine if that is still the decision about what stands there now; None when somebody was faster."""
        before = self.known.get(shard)
        entry = await self._leases.get(self._prefix + shard)
        standing = read(entry.value) if entry else NOBODY
        decision = decide(standing)
        if not isinstance(decision, Take):
            self._learn(shard, before, standing)
            return None
        claim = Claim(me, decision.epoch, time.time(), predecessors(standing))
        revision = await self._leases.swap(
            self._prefix + shard, msgspec.json.encode(claim), entry.revision if entry else 0
        )
        if revision is None or self.known.get(shard, NOBODY).epoch > claim.epoch:
            return None  # it was taken from us before we knew that it was ours
        self.known[shard] = claim
        return claim

    async def standing(self, shard: str) -> Claim:
        """The claim that stands, by the bucket's leader."""
        entry = await self._leases.latest(self._prefix + shard)
        claim = self.known[shard] = read(entry.value) if entry is not None else NOBODY
        return claim

    async def stands(self, shard: str, claim: Claim) -> bool:
        """Whether a claim is the shard's still, by the bucket's leader."""
        return await self.standing(shard) == claim

    async def release(self, shard: str, claim: Claim) -> bool:
        """Give it back; False when somebody else has it by now."""
        entry = await self._leases.get(self._prefix + shard)
        if entry is None or read(entry.value) != claim:
            return False
        free = Claim("", claim.epoch, time.time(), predecessors(claim))
        return (
            await self._leases.swap(self._prefix + shard, msgspec.json.encode(free), entry.revision)
            is not None
        )


def predecessors(claim: Claim) -> tuple[str, ...]:
    """Those of the claim that comes after this one."""
    return tuple(dict.fromkeys(each for each in (claim.owner, *claim.before) if each))[:REMEMBERED]


def read(value: bytes) -> Claim:
    """A value that is no claim counts as nobody's."""
    try:
        return _decode(value)
    except Unfit:
        return NOBODY
