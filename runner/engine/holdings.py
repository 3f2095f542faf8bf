"""The claims that this instance holds: each is confirmed by compare-and-set on its own revision, one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from runner.engine.claims import AT_ONCE, Claim, Claims, Standing


class Holdings:
    """Held claims by shard; `lost(shard)` is called when one turns out to be another's."""

    def __init__(
        self, claims: Claims, lost: Callable[[str], None], is_open: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._claims = claims
        self._lost = lost
        self._is_open = is_open
        """Whether the generation of a shard is open, as the bucket has it now."""
        self._held: dict[str, Standing] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def __contains__(self, shard: str) -> bool:
        return shard in self._held

    def get(self, shard: str) -> Standing | None:
        """What is held, None for a shard that is not."""
        return self._held.get(shard)

    def hold(self, shard: str, standing: Standing) -> None:
        """It was taken."""
        self._held[shard] = standing

    def forget(self, shard: str) -> Standing | None:
        """It is held no more; what it was."""
        return self._held.pop(shard, None)

    async def stands(self, shard: str, claim: Claim) -> bool:
        """Whether a claim is held here and ours still. Raises the ServerError family."""
        async with self._lock(shard):
            held = self._held.get(shard)
            if held is None or held.claim != claim:
                return False
            found = await self._claims.confirm(shard, held) or await self._restored(shard, held)
            if self._held.get(shard) is not held:
                return False
            if found is None:
                del self._held[shard]
                self._lost(shard)
                return False
            self._held[shard] = found
            return True

    async def _restored(self, shard: str, held: Standing) -> Standing | None:
        """A claim that is not in the bucket any more was lost with others, or removed with its generation."""
        found = await self._claims.restore(shard, held)
        if found is not None and not await self._is_open(shard):
            await self._claims.release(shard, found)
            return None
        return found

    async def confirm(self) -> None:
        """Ask for every one that is held; those that are another's are lost. Raises the ServerError family."""
        held = list(self._held.items())
        for begin in range(0, len(held), AT_ONCE):
            await asyncio.gather(
                *(self.stands(name, each.claim) for name, each in held[begin : begin + AT_ONCE])
            )

    async def release(self, shard: str) -> bool:
        """Give it back; False when it was written meanwhile, or is not held. Raises the ServerError family."""
        async with self._lock(shard):  # a confirmation that is on its way changes the revision
            held = self._held.pop(shard, None)
            return held is not None and await self._claims.release(shard, held)

    def _lock(self, shard: str) -> asyncio.Lock:
        return self._locks.setdefault(shard, asyncio.Lock())
