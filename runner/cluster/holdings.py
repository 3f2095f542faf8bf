"""The claims that this instance holds: each is confirmed by compare-and-set on its own revision, one request at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial

from runner.cluster.claims import Claims, Standing
from runner.cluster.membership import Membership
from runner.core.claim import Claim
from runner.core.lease import CLAIMS_SECONDS
from runner.jetstream.concurrent import map_concurrently


class Holdings:
    """Held claims by shard; `lost(shard)` is called when one turns out to be another's."""

    def __init__(self, claims: Claims, own: Membership, lost: Callable[[str], None]) -> None:
        self._claims = claims
        self._own = own
        self._lost = lost
        self._held: dict[str, Standing] = {}
        self._seen: dict[str, float] = {}
        """When the request was sent that has last found the claim of a shard as it was written."""
        self._locks: dict[str, asyncio.Lock] = {}

    def __contains__(self, shard: str) -> bool:
        return shard in self._held

    def get(self, shard: str) -> Standing | None:
        """What is held, None for a shard that is not."""
        return self._held.get(shard)

    def hold(self, shard: str, standing: Standing, sent: float) -> None:
        """It was taken, by a write sent at that moment."""
        self._held[shard], self._seen[shard] = standing, sent

    def look(self, sent: float, found: Mapping[str, int], starting: Collection[str]) -> float:
        """All claims were read, by a request sent at that moment, in these revisions.

        Returns from when on all of those stand as they were written on whose shards work may start. One that was written while
        they were read counts from its own request on: where many shards are taken one after the other, there always is one.
        """
        standing = {name for name, held in self._held.items() if found.get(name) == held.revision}
        self._seen.update(dict.fromkeys(standing, sent))
        return min([sent, *(self._seen.get(name, 0.0) for name in starting)])

    def forget(self, shard: str) -> None:
        """It is held no more."""
        self._held.pop(shard, None)

    async def stands(self, shard: str, claim: Claim) -> bool:
        """Whether a claim is held here and ours still. Raises the ServerError family."""
        async with self._lock(shard):
            held = self._held.get(shard)
            if held is None or held.claim != claim:
                return False
            sent = time.monotonic()
            found = await self._claims.confirm(shard, held) or await self._claims.restore(
                shard, held, partial(self._may_restore, shard)
            )
            if self._held.get(shard) is not held:
                return False
            if found is None:
                del self._held[shard]
                self._lost(shard)
                return False
            self._held[shard], self._seen[shard] = found, sent
            return True

    def _may_restore(self, shard: str) -> bool:
        """Whether no other instance can have had it since it was last seen (rule 4 of `core/lease.py`)."""
        lately = time.monotonic() < self._seen.get(shard, 0.0) + CLAIMS_SECONDS
        return lately and self._own.state.unbroken and self._own.lease_current

    async def confirm(self) -> None:
        """Ask for every one that is held; those that are another's are lost. Raises the ServerError family."""
        held = [(name, each.claim) for name, each in self._held.items()]
        await map_concurrently(lambda each: self.stands(*each), held)

    async def release(self, shard: str) -> bool:
        """Give it back; False when it was written meanwhile, or is not held. Raises the ServerError family."""
        async with self._lock(shard):  # a confirmation that is on its way changes the revision
            held = self._held.pop(shard, None)
            return held is not None and await self._claims.release(shard, held)

    def _lock(self, shard: str) -> asyncio.Lock:
        return self._locks.setdefault(shard, asyncio.Lock())
