"""Claims: who owns which shard, one key of the bucket each, written by compare-and-set alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from runner.core import checked
from runner.core.checked import Count, Instance, Owner, Unfit, UnixTime
from runner.core.takeover import next_epoch
from runner.errors import ServerError
from runner.jetstream import stray
from runner.jetstream.connection import Connection
from runner.jetstream.lease import Entry, Leases
from runner.jetstream.wire import Unsubscribe

REMEMBERED = 4
"""Earlier owners that a claim names: each may have put settlements on record that a killed server forgot."""
AT_ONCE = 64
"""Claims written at once."""
READ_SECONDS = 2.0
"""Claims are read this often, whatever is heard."""


class Claim(msgspec.Struct, frozen=True):
    """A shard's owner, empty while it is free; the epoch rises with every owner."""

    owner: Owner
    epoch: Count
    since: UnixTime
    """Unix time."""
    before: Annotated[tuple[Instance, ...], Meta(max_length=64)] = ()
    """Who owned it before, the last one first."""
    sealed: Count = 0
    """The turn of the opening (`core/generation.py`) at which its generation last began to close: whoever knows of an
    earlier turn alone does not take it."""


NOBODY = Claim("", 0, 0.0)
_decode = checked.json(Claim)


class Standing(msgspec.Struct, frozen=True):
    """A claim as it was read or written."""

    claim: Claim = NOBODY
    revision: int = 0
    """In the bucket; 0 for one that is not there."""


class Claims:
    """The claims of one project. A shard's name here is `<function>.<generation>.<number>`."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._leases = Leases(connection)
        self._prefix = f"claim.{project}."
        self.known: dict[str, Standing] = {}
        """As last read or written. It may be old: a write names the revision, and is refused then."""
        self._unread: set[str] = set()
        self._read = -READ_SECONDS
        """When all of them were read."""
        self._missing: dict[str, float] = {}
        """Since when a claim was not there, by the monotonic clock."""

    async def watch(self, heard: Callable[[str, str], None]) -> Unsubscribe:
        """Call `heard(shard, owner)` for every write from now on, also for one that the server refuses: a reason to read."""
        return await self._leases.watch(
            self._prefix + ">", lambda key, value: heard(key.removeprefix(self._prefix), owner_of(value))
        )

    def forget(self) -> None:
        """What was read before says nothing: the bucket may be an older one now."""
        self.known.clear()
        self._missing.clear()
        self.reread()

    def reread(self) -> None:
        """Have `refresh` read all of them."""
        self._read = -READ_SECONDS

    def distrust(self, shard: str) -> None:
        """Have `refresh` read this one: it was written, or may have been."""
        self._unread.add(shard)

    def missing(self, shard: str) -> float | None:
        """For how many seconds there has been no claim that can be read; None where there is one."""
        since = self._missing.get(shard)
        return time.monotonic() - since if since is not None else None

    async def refresh(self, generations: Iterable[str], expected: Callable[[], Collection[str]]) -> None:
        """Read what was written, and now and then all claims of these generations, each `<function>.<generation>`.

        `expected` gives the shards that have a claim. Raises the ServerError family.
        """
        unread, self._unread = self._unread, set()
        try:
            if time.monotonic() - self._read >= READ_SECONDS:
                self._read = time.monotonic()
                found = await self._leases.read([f"{self._prefix}{each}.*" for each in generations])
                unread = {*expected(), *(key.removeprefix(self._prefix) for key in found)}
            elif unread:
                found = await self._leases.read([self._prefix + shard for shard in unread])
            else:
                return
        except ServerError:
            self._unread |= unread
            raise
        for shard in unread:
            self._learn(shard, found.get(self._prefix + shard))

    def _learn(self, shard: str, entry: Entry | None) -> None:
        claim = read(entry.value, shard) if entry is not None else None
        if claim is None:
            self._missing.setdefault(shard, time.monotonic())
        else:
            self._missing.pop(shard, None)
        revision = entry.revision if entry is not None else 0
        if not revision or revision > self.known.get(shard, Standing()).revision:
            self.known[shard] = Standing(claim or NOBODY, revision)

    async def take(self, shard: str, me: str) -> Standing | None:
        """Make it mine, if what is known of it still stands; None when it was written meanwhile."""
        known = self.known.get(shard, Standing())
        before = known.claim
        epoch = next_epoch(before.epoch if self.missing(shard) is None else None, time.time())
        claim = Claim(me, epoch, time.time(), predecessors(before), before.sealed)
        return await self._write(shard, claim, known.revision)

    async def confirm(self, shard: str, held: Standing) -> Standing | None:
        """Write a claim once more that is held: the quorum then says that it is ours. None when another revision stands."""
        return await self._write(shard, held.claim, held.revision)

    async def restore(self, shard: str, held: Standing) -> Standing | None:
        """Write it where the bucket has none, or has it in a revision that we do not know of. None when it is another's.

        The claims of a generation that was left are removed: it counts only where its generation is open (`is_open` of
        `engine/holdings.py`).
        """
        entry = await self._leases.latest(self._prefix + shard)
        if entry is None:
            return await self._write(shard, held.claim, 0)
        if read(entry.value, shard) == held.claim:  # the answer to an earlier write was lost
            return await self._write(shard, held.claim, entry.revision)
        self._learn(shard, entry)
        return None

    async def release(self, shard: str, standing: Standing) -> bool:
        """Give it back; False when it was written meanwhile."""
        claim = standing.claim
        free = Claim("", claim.epoch, time.time(), predecessors(claim), claim.sealed)
        return await self._write(shard, free, standing.revision) is not None

    async def prepare(self, function: str, generation: int, count: int) -> None:
        """Write the claims of a generation that is about to open, free; those that are there stay."""
        for begin in range(0, count, AT_ONCE):
            await asyncio.gather(
                *(
                    self._leases.swap(
                        f"{self._prefix}{function}.{generation}.{number}", msgspec.json.encode(NOBODY), 0
                    )
                    for number in range(begin, min(begin + AT_ONCE, count))
                )
            )

    async def seal(
        self, function: str, generation: int, count: int, turn: int, gone: Callable[[str, int], bool]
    ) -> bool:
        """Seal the claims of a generation that closes; False while one is held, or was written meanwhile.

        `gone(owner, revision)` tells whether the owner of a claim of that revision can hold it no more.
        """
        prefix = f"{self._prefix}{function}.{generation}."
        entries = await self._leases.read([prefix + "*"])
        wanted: list[tuple[str, Claim, int]] = []
        for number in range(count):
            entry = entries.get(f"{prefix}{number}")
            claim = (read(entry.value) if entry is not None else None) or NOBODY
            revision = entry.revision if entry is not None else 0
            if claim.owner and not gone(claim.owner, revision):
                return False
            if claim.sealed < turn or claim.owner:
                sealed = Claim("", claim.epoch, time.time(), predecessors(claim), turn)
                wanted.append((f"{function}.{generation}.{number}", sealed, revision))
        for begin in range(0, len(wanted), AT_ONCE):
            written = await asyncio.gather(*(self._write(*each) for each in wanted[begin : begin + AT_ONCE]))
            if None in written:
                return False
        return True

    async def turn(self, function: str, generation: int) -> int:
        """The highest turn that claims of a generation are sealed with."""
        entries = await self._leases.read([f"{self._prefix}{function}.{generation}.*"])
        claims = (read(entry.value) for entry in entries.values())
        return max((claim.sealed for claim in claims if claim is not None), default=0)

    async def _write(self, shard: str, claim: Claim, revision: int) -> Standing | None:
        written = await self._leases.swap(self._prefix + shard, msgspec.json.encode(claim), revision)
        if written is None:
            return None
        self._missing.pop(shard, None)
        self.known[shard] = Standing(claim, written)
        return self.known[shard]


def predecessors(claim: Claim) -> tuple[str, ...]:
    """Those of the claim that comes after this one."""
    return tuple(dict.fromkeys(each for each in (claim.owner, *claim.before) if each))[:REMEMBERED]


def read(value: bytes, key: str = "a claim") -> Claim | None:
    """None for a value that is no claim."""
    try:
        return _decode(value)
    except Unfit as error:
        stray.pass_over(key, error)
        return None


def owner_of(value: bytes) -> str:
    """Who owns the shard; empty for no instance."""
    claim = read(value)
    return claim.owner if claim is not None else ""
