"""The claims that this instance holds: each is confirmed by compare-and-set on its own revision, one request at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial

from runner.cluster.claims import Claims, StoredClaim
from runner.cluster.membership import Membership
from runner.core.claim import Claim
from runner.core.lease import CLAIMS_SECONDS
from runner.jetstream.concurrent import map_concurrently


class Holdings:
    """The held claims by shard; `lost(shard)` is called when a claim turns out to be another instance's."""

    def __init__(self, claims: Claims, own: Membership, lost: Callable[[str], None]) -> None:
        self._claims = claims
        self._own = own
        self._lost = lost
        self._held: dict[str, StoredClaim] = {}
        self._seen: dict[str, float] = {}
        """By shard, when the request was sent that last found the claim as it was written."""
        self._locks: dict[str, asyncio.Lock] = {}

    def __contains__(self, shard: str) -> bool:
        return shard in self._held

    def get(self, shard: str) -> StoredClaim | None:
        """The held claim of a shard; None if it is not held."""
        return self._held.get(shard)

    def hold(self, shard: str, standing: StoredClaim, sent: float) -> None:
        """Hold a claim that was taken by a write sent at that moment."""
        self._held[shard], self._seen[shard] = standing, sent

    def look(self, sent: float, found: Mapping[str, int], starting: Collection[str]) -> float:
        """All claims were read, by a request sent at that moment, in these revisions.

        Returns the earliest moment at which the claims of all `starting` shards were last found as written. A claim written during the
        read counts from its own request on, because while many shards are taken, there is always such a claim.
        """
        standing = {name for name, held in self._held.items() if found.get(name) == held.revision}
        self._seen.update(dict.fromkeys(standing, sent))
        return min([sent, *(self._seen.get(name, 0.0) for name in starting)])

    def forget(self, shard: str) -> None:
        """The shard's claim is no longer held."""
        self._held.pop(shard, None)

    async def stands(self, shard: str, claim: Claim) -> bool:
        """Confirm a claim: whether it is held here and still ours. Raises the ServerError family."""
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
        """Whether no other instance can have owned the shard since its claim was last seen (rule 4 of `core/lease.py`)."""
        lately = time.monotonic() < self._seen.get(shard, 0.0) + CLAIMS_SECONDS
        return lately and self._own.state.unbroken and self._own.lease_current

    async def confirm(self) -> None:
        """Confirm every held claim; those that are another instance's are lost. Raises the ServerError family."""
        held = [(name, each.claim) for name, each in self._held.items()]
        await map_concurrently(lambda each: self.stands(*each), held)

    async def release(self, shard: str) -> bool:
        """Give a claim back; False if it was written meanwhile, or is not held. Raises the ServerError family."""
        async with self._lock(shard):  # a confirmation on its way changes the revision
            held = self._held.pop(shard, None)
            return held is not None and await self._claims.release(shard, held)

    def _lock(self, shard: str) -> asyncio.Lock:
        return self._locks.setdefault(shard, asyncio.Lock())
