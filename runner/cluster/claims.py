"""Claims: which instance owns which shard. Each claim is a key of the bucket, written only by compare-and-set."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

import msgspec

from runner.core.claim import UNOWNED, Claim, decode
from runner.core.takeover import VACANT_SECONDS
from runner.errors import ServerError
from runner.jetstream import tolerant
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.connection import Connection
from runner.jetstream.kv import KV, NOTHING, Entry
from runner.jetstream.wire import Unsubscribe

REMEMBERED = 4
"""The most earlier owners that a claim names: each may have settlements on record whose acks a killed server forgot."""
READ_SECONDS = 2.0
"""All claims are read this often, even if no change was announced."""


class StoredClaim(msgspec.Struct, frozen=True):
    """A claim as it was read or written."""

    claim: Claim = UNOWNED
    revision: int = 0
    """The claim's revision in the bucket; 0 if there is no claim."""
    readable: bool = False
    """Whether there is a claim that can be read."""


class Claims:
    """The claims of one project. A shard's name here is `<function>.<generation>.<number>`."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._kv = KV(connection)
        self._prefix = f"claim.{project}."
        self.known: dict[str, StoredClaim] = {}
        """By shard, the claim as last read or written. It may be out of date: a write names its revision, and is refused then."""
        self._unread: set[str] = set()
        self._read = -READ_SECONDS
        """When all claims were last read."""
        self._vacant: dict[str, tuple[StoredClaim, float]] = {}
        """Claims that are vacant or cannot be read, and since when each is known to stand, by the monotonic clock."""

    async def watch(self, heard: Callable[[str, str], None]) -> Unsubscribe:
        """Call `heard(shard, owner)` for every write from now on, even one that the server refuses: the claim should then be read."""
        return await self._kv.watch(
            self._prefix + ">", lambda key, value: heard(key.removeprefix(self._prefix), owner_of(value))
        )

    def forget(self) -> None:
        """Forget all claims that were read: the bucket may be an older one now."""
        self.known.clear()
        self._vacant.clear()
        self.reread()

    def reread(self) -> None:
        """Have `refresh` read all claims."""
        self._read = -READ_SECONDS

    def distrust(self, shard: str) -> None:
        """Have `refresh` read this shard's claim, which was written, or may have been."""
        self._unread.add(shard)

    def vacant(self, shard: str) -> float | None:
        """For how many seconds the shard's claim is known to have been vacant or unreadable; None if it is neither."""
        known = self._vacant.get(shard)
        return time.monotonic() - known[1] if known is not None else None

    async def refresh(
        self, generations: Iterable[str], expected: Callable[[], Collection[str]]
    ) -> dict[str, int] | None:
        """Read the distrusted claims, and every 2 s all claims of these generations, each `<function>.<generation>`.

        `expected` returns the shards that should have a claim. Returns the revisions by shard, or None if not all claims were read.
        Raises the ServerError family.
        """
        unread, self._unread = self._unread, set()
        try:
            if whole := time.monotonic() - self._read >= READ_SECONDS:
                self._read = time.monotonic()
                found = await self._kv.read([f"{self._prefix}{each}.*" for each in generations])
                unread = {*expected(), *(key.removeprefix(self._prefix) for key in found)}
            elif unread:
                found = await self._kv.read([self._prefix + shard for shard in unread])
            else:
                return None
        except ServerError:
            self._unread |= unread
            if whole:
                self.reread()
            raise
        for shard in unread:
            self._learn(shard, found.get(self._prefix + shard, NOTHING))
        return (
            {key.removeprefix(self._prefix): entry.revision for key, entry in found.items()}
            if whole
            else None
        )

    def _learn(self, shard: str, entry: Entry) -> None:
        value, revision = entry
        claim = read(value, shard) if revision else None
        if not revision or revision > self.known.get(shard, StoredClaim()).revision:
            self._know(shard, StoredClaim(claim or UNOWNED, revision, readable=claim is not None))

    def _learn_only(self, shard: str, entry: Entry) -> StoredClaim:
        """Remember a claim as it was read, even if a higher revision was known: the bucket may be another one."""
        self.known.pop(shard, None)
        self._learn(shard, entry)
        return self.known[shard]

    def _know(self, shard: str, standing: StoredClaim) -> None:
        self.known[shard] = standing
        if standing.readable and not standing.claim.vacant:
            self._vacant.pop(shard, None)
        elif self._vacant.get(shard, (None, 0.0))[0] != standing:
            self._vacant[shard] = standing, time.monotonic()

    async def vacate(self, shard: str) -> StoredClaim | None:
        """Write a vacant claim for a shard without a readable one; None if the claim was written meanwhile."""
        claim = Claim("", int(time.time()), time.time(), vacant=True)
        return await self._write(shard, claim, self.known.get(shard, StoredClaim()).revision)

    async def take(self, shard: str, me: str) -> StoredClaim | None:
        """Claim a shard for `me`, if its known claim still stands; None if the claim was written meanwhile."""
        known = self.known.get(shard, StoredClaim())
        before = known.claim
        claim = Claim(me, before.epoch + 1, time.time(), predecessors(before), before.sealed)
        return await self._write(shard, claim, known.revision)

    async def confirm(self, shard: str, held: StoredClaim) -> StoredClaim | None:
        """Write a held claim again, so that the quorum confirms it. None if another revision stands."""
        return await self._write(shard, held.claim, held.revision)

    async def restore(self, shard: str, held: StoredClaim, may: Callable[[], bool]) -> StoredClaim | None:
        """Write a held claim that the bucket has lost, or has in a revision unknown here. None if the shard is not ours.

        `may` says whether no other instance can have owned the shard so far. Then the claim was not removed with a drained generation
        either, because a generation closes only once its claims are given back, or their owners are gone.
        """
        while True:
            known = self._learn_only(shard, await self._kv.leader(self._prefix + shard))
            ours = known.claim == held.claim  # the answer to an earlier write was lost
            if ours or (known.claim.vacant and may()):
                return await self._write(shard, held.claim, known.revision)
            if known.readable or not may():
                return None
            await self.vacate(shard)  # its revision shows that no other claim has stood there since we asked

    async def release(self, shard: str, standing: StoredClaim | None = None) -> bool:
        """Give a claim back, in its known revision if none is given; False if it was written meanwhile."""
        standing = standing or self.known[shard]
        claim = standing.claim
        free = Claim("", claim.epoch, time.time(), predecessors(claim), claim.sealed)
        return await self._write(shard, free, standing.revision) is not None

    async def prepare(self, function: str, generation: int, count: int) -> None:
        """Write free claims for a generation that is about to open; existing claims stay."""
        prefix, free = f"{self._prefix}{function}.{generation}.", msgspec.json.encode(UNOWNED)
        await map_concurrently(lambda number: self._kv.swap(f"{prefix}{number}", free, 0), range(count))

    async def seal(
        self, function: str, generation: int, count: int, turn: int, gone: Callable[[str, int], bool]
    ) -> bool:
        """Seal the claims of a generation that closes; False while one is held, or if one was written meanwhile.

        `gone(owner, revision)` says whether the owner of a claim of that revision can no longer hold it. A claim that the bucket has lost
        may still be held, until a vacant one has stood in its place for `VACANT_SECONDS`.
        """
        prefix = f"{self._prefix}{function}.{generation}."
        entries = await self._kv.read([prefix + "*"])
        wanted: list[tuple[str, Claim, int]] = []
        lost, held = [], False
        for number in range(count):
            shard = f"{function}.{generation}.{number}"
            known = self._learn_only(shard, entries.get(self._prefix + shard, NOTHING))
            claim = known.claim
            if not known.readable:
                lost.append(shard)
            elif (vacant := self.vacant(shard)) is not None:
                held |= vacant < VACANT_SECONDS
            elif claim.owner:
                held |= not gone(claim.owner, known.revision)
            if claim.sealed < turn or claim.owner or claim.vacant:
                sealed = Claim("", claim.epoch, time.time(), predecessors(claim), turn)
                wanted.append((shard, sealed, known.revision))
        await map_concurrently(self.vacate, lost)
        if lost or held:
            return False
        return None not in await map_concurrently(lambda each: self._write(*each), wanted)

    async def turn(self, function: str, generation: int) -> int:
        """The highest turn with which claims of a generation are sealed; 0 if none is."""
        entries = await self._kv.read_leader(f"{self._prefix}{function}.{generation}.*")
        claims = (read(entry.value) for entry in entries.values())
        return max((claim.sealed for claim in claims if claim is not None), default=0)

    async def _write(self, shard: str, claim: Claim, revision: int) -> StoredClaim | None:
        written = await self._kv.swap(self._prefix + shard, msgspec.json.encode(claim), revision)
        if written is None:
            return None
        standing = StoredClaim(claim, written, readable=True)
        self._know(shard, standing)
        return standing


def predecessors(claim: Claim) -> tuple[str, ...]:
    """The earlier owners that the claim after this one names."""
    return tuple(dict.fromkeys(each for each in (claim.owner, *claim.before) if each))[:REMEMBERED]


def read(value: bytes, key: str = "a claim") -> Claim | None:
    """The claim in a value; None if the value is not a claim."""
    return tolerant.read(decode, value, key)


def owner_of(value: bytes) -> str:
    """The owner in a claim's value; empty if there is none."""
    claim = read(value)
    return claim.owner if claim is not None else ""
