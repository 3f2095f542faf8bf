"""Claims: who owns which shard, one key of the bucket each, written by compare-and-set alone."""

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
"""Earlier owners that a claim names: each may have put settlements on record that a killed server forgot."""
READ_SECONDS = 2.0
"""Claims are read this often, whatever is heard."""


class Standing(msgspec.Struct, frozen=True):
    """A claim as it was read or written."""

    claim: Claim = UNOWNED
    revision: int = 0
    """In the bucket; 0 for one that is not there."""
    readable: bool = False
    """Whether there is a claim that can be read."""


class Claims:
    """The claims of one project. A shard's name here is `<function>.<generation>.<number>`."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._kv = KV(connection)
        self._prefix = f"claim.{project}."
        self.known: dict[str, Standing] = {}
        """As last read or written. It may be old: a write names the revision, and is refused then."""
        self._unread: set[str] = set()
        self._read = -READ_SECONDS
        """When all of them were read."""
        self._vacant: dict[str, tuple[Standing, float]] = {}
        """Claims that are vacant or cannot be read, and since when each is known to stand, by the monotonic clock."""

    async def watch(self, heard: Callable[[str, str], None]) -> Unsubscribe:
        """Call `heard(shard, owner)` for every write from now on, also for one that the server refuses: a reason to read."""
        return await self._kv.watch(
            self._prefix + ">", lambda key, value: heard(key.removeprefix(self._prefix), owner_of(value))
        )

    def forget(self) -> None:
        """What was read before says nothing: the bucket may be an older one now."""
        self.known.clear()
        self._vacant.clear()
        self.reread()

    def reread(self) -> None:
        """Have `refresh` read all of them."""
        self._read = -READ_SECONDS

    def distrust(self, shard: str) -> None:
        """Have `refresh` read this one: it was written, or may have been."""
        self._unread.add(shard)

    def vacant(self, shard: str) -> float | None:
        """For how many seconds a vacant claim, or one that cannot be read, is known to have stood; None where it is neither."""
        known = self._vacant.get(shard)
        return time.monotonic() - known[1] if known is not None else None

    async def refresh(
        self, generations: Iterable[str], expected: Callable[[], Collection[str]]
    ) -> dict[str, int] | None:
        """Read what was written, and every 2 s all claims of these generations, each `<function>.<generation>`.

        `expected` gives the shards that have a claim. Returns the revisions by shard, None where not all claims were read.
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
        if not revision or revision > self.known.get(shard, Standing()).revision:
            self._know(shard, Standing(claim or UNOWNED, revision, readable=claim is not None))

    def _learn_only(self, shard: str, entry: Entry) -> Standing:
        """Take a claim as it was read, also where a higher revision of it was known: the bucket may be another."""
        self.known.pop(shard, None)
        self._learn(shard, entry)
        return self.known[shard]

    def _know(self, shard: str, standing: Standing) -> None:
        self.known[shard] = standing
        if standing.readable and not standing.claim.vacant:
            self._vacant.pop(shard, None)
        elif self._vacant.get(shard, (None, 0.0))[0] != standing:
            self._vacant[shard] = standing, time.monotonic()

    async def vacate(self, shard: str) -> Standing | None:
        """Write a vacant claim where none can be read; None when it was written meanwhile."""
        claim = Claim("", int(time.time()), time.time(), vacant=True)
        return await self._write(shard, claim, self.known.get(shard, Standing()).revision)

    async def take(self, shard: str, me: str) -> Standing | None:
        """Make it mine, if what is known of it still stands; None when it was written meanwhile."""
        known = self.known.get(shard, Standing())
        before = known.claim
        claim = Claim(me, before.epoch + 1, time.time(), predecessors(before), before.sealed)
        return await self._write(shard, claim, known.revision)

    async def confirm(self, shard: str, held: Standing) -> Standing | None:
        """Write a claim once more that is held: the quorum then says that it is ours. None when another revision stands."""
        return await self._write(shard, held.claim, held.revision)

    async def restore(self, shard: str, held: Standing, may: Callable[[], bool]) -> Standing | None:
        """Write it where the bucket has lost it, or has it in a revision that we do not know of. None when it is not ours.

        `may` tells whether no other instance can have had it so far. Nor were claims removed then with the generation that was
        left: it closes once its claims were given back, or their owners are gone.
        """
        while True:
            known = self._learn_only(shard, await self._kv.leader(self._prefix + shard))
            ours = known.claim == held.claim  # the answer to an earlier write was lost
            if ours or (known.claim.vacant and may()):
                return await self._write(shard, held.claim, known.revision)
            if known.readable or not may():
                return None
            await self.vacate(shard)  # its revision tells that no other claim has stood there since we asked

    async def release(self, shard: str, standing: Standing | None = None) -> bool:
        """Give it back, as it is known unless told; False when it was written meanwhile."""
        standing = standing or self.known[shard]
        claim = standing.claim
        free = Claim("", claim.epoch, time.time(), predecessors(claim), claim.sealed)
        return await self._write(shard, free, standing.revision) is not None

    async def prepare(self, function: str, generation: int, count: int) -> None:
        """Write the claims of a generation that is about to open, free; those that are there stay."""
        prefix, free = f"{self._prefix}{function}.{generation}.", msgspec.json.encode(UNOWNED)
        await map_concurrently(lambda number: self._kv.swap(f"{prefix}{number}", free, 0), range(count))

    async def seal(
        self, function: str, generation: int, count: int, turn: int, gone: Callable[[str, int], bool]
    ) -> bool:
        """Seal the claims of a generation that closes; False while one is held, or was written meanwhile.

        `gone(owner, revision)` tells whether the owner of a claim of that revision can hold it no more. One that the bucket has
        lost may be held until a vacant one has stood in its place for long enough.
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
        """The highest turn that claims of a generation are sealed with."""
        entries = await self._kv.read_leader(f"{self._prefix}{function}.{generation}.*")
        claims = (read(entry.value) for entry in entries.values())
        return max((claim.sealed for claim in claims if claim is not None), default=0)

    async def _write(self, shard: str, claim: Claim, revision: int) -> Standing | None:
        written = await self._kv.swap(self._prefix + shard, msgspec.json.encode(claim), revision)
        if written is None:
            return None
        standing = Standing(claim, written, readable=True)
        self._know(shard, standing)
        return standing


def predecessors(claim: Claim) -> tuple[str, ...]:
    """Those of the claim that comes after this one."""
    return tuple(dict.fromkeys(each for each in (claim.owner, *claim.before) if each))[:REMEMBERED]


def read(value: bytes, key: str = "a claim") -> Claim | None:
    """None for a value that is no claim."""
    return tolerant.read(decode, value, key)


def owner_of(value: bytes) -> str:
    """Who owns the shard; empty for no instance."""
    claim = read(value)
    return claim.owner if claim is not None else ""
