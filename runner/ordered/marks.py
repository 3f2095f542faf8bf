"""The marks of an ordered function's keys, as this process knows them.

Rule 1: the marks of a shard's keys are read from the bucket's leader once the shard is claimed, before anything starts.
Rule 2: an announcement of a mark is only a hint: the mark is then read. All marks are read now and then, in case an announcement
        was lost.
Rule 3: a parked key stays parked until its mark says otherwise. If the bucket has lost a mark, the owner that knows it writes it
        again. A mark that no process knows is made from the messages in `PARKED` (`lostmarks.py`). An older mark that stands there
        because the bucket went back is replaced in the same way: it is out of date.
Rule 4: a mark of a key that was made of other tokens keeps this function from starting: it cannot tell which messages
        are the key's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

from runner.bindings import Binding
from runner.core.park import Mark, tokens
from runner.core.shardlife import ShardLife
from runner.errors import JetrunnerError, PermissionDenied, UsageError
from runner.jetstream.concurrent import gather, map_concurrently
from runner.jetstream.keymarks import KeyMarks, MarkEntry
from runner.jetstream.parked import Parked
from runner.ordered import lostmarks
from runner.ordered.rekey import rekey
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.parked")

LOOKING_SECONDS = 3.0
"""Longest pause between two reads of an announced mark that is not in the bucket yet."""
LOOK_SECONDS = 10.0
TURN_SECONDS = 0.25
NAMED = 3
"""The most keys that an error names."""


class Marks:
    """The marks of one function's keys; marks of keys in other owners' shards may be out of date."""

    def __init__(self, runtime: Runtime, binding: Binding, place: Callable[[str], str]) -> None:
        self.parked = Parked(runtime.connection, runtime.project, runtime.histories.original)
        self._bucket = KeyMarks(runtime.connection, runtime.project)
        self.standing: dict[bytes, MarkEntry] = {}
        """By key, the marks that matter: of keys that are kept back, or were once brought back."""
        self.due: set[bytes] = set()
        """Keys to be brought back, in the shards of all owners."""
        self._runtime = runtime
        self._binding = binding
        self._function = binding.function
        self._positions = binding.key_positions
        self._place = place
        """Names the shard of a subject."""
        self._lives: dict[str, ShardLife] = {}
        """By name, the lives of the shards whose marks were read here."""
        self._awaited: dict[bytes, Mark] = {}
        """The last announced mark of each key whose mark is being read."""
        self._writing: dict[bytes, Mark] = {}
        """By key, the marks that are being written here."""
        self._newest = -1
        """The highest revision that was seen."""
        self._era = 0
        """Counts how often the bucket turned out to be another one: revisions of different buckets cannot be compared."""
        self._first = 0
        """The first revision that was given since the bucket last went back."""
        self._due = False
        """Whether all marks are to be looked at."""
        runtime.histories.bucket.changed.append(self.distrust)

    async def start(self) -> None:
        """Learn of every mark that is written from now on. Raises UsageError for marks of keys made of other tokens."""
        await self._bucket.watch(self._function, self._heard)
        standing = await self._bucket.all(self._function)
        left = await rekey(self._runtime, self._function, self._positions, standing)
        self.require_shape(entry.mark for entry in left)
        self._runtime.tasks.start_soon(self._keep_looking)

    def require_shape(self, marks: Iterable[Mark]) -> None:
        """Raise UsageError if keys are kept back that are made of other tokens than this function's keys."""
        strange = sorted(
            (mark for mark in marks if mark.diverts and mark.positions != self._positions),
            key=lambda mark: mark.key,
        )
        if not strange:
            return
        named = ", ".join(repr(mark.key) for mark in strange[:NAMED])
        more = f" and {len(strange) - NAMED:,} more" if len(strange) > NAMED else ""
        keys, are = ("keys", "are") if len(strange) > 1 else ("key", "is")
        binding = self._binding
        raise UsageError(
            f"{binding.place}: {keys} {named}{more} {are} kept back by "
            f"{tokens(strange[0].positions)} of the subject, and ordered_by= is {tokens(self._positions)} now: newer "
            "messages would run before those that are parked",
            hint="run it with the subject and the ordered_by= of before, until `runner parked retry KEY` "
            "has brought back what `runner parked list` shows",
        )

    # -- reading and writing ----------------------------------------------------------------------------

    async def load(self, shard: str, life: ShardLife) -> None:
        """Read the marks of all keys of a shard. Raises JetrunnerError."""
        names, parked = await gather(self._bucket.names(self._function), self._keys_parked())
        waiting = {raw(text) for text in parked}
        keys = {*(raw(text) for _, text in names), *waiting, *self.standing}
        ours = [key for key in keys if self.shard_of(key) == shard]
        entries = dict(zip(ours, await self._read_all(ours, keep=True), strict=True))
        self.require_shape(entry.mark for entry in entries.values() if entry is not None)
        lost = {
            text_of(key): entry for key, entry in entries.items() if key in waiting and not _diverts(entry)
        }
        if lost:
            async for entry in lostmarks.found(self._runtime, self._function, self._positions, lost):
                self.require_shape([entry.mark])
                self.know(entry)
        self._lives[shard] = life

    async def _keys_parked(self) -> set[str]:
        try:
            return await self.parked.keys(self._function, self._positions)
        except PermissionDenied as error:  # the marks alone have to do
            log.debug("cannot read what is parked of %s: %s", self._function, error)
            return set()

    async def _read_all(self, keys: list[bytes], *, keep: bool = False) -> list[MarkEntry | None]:
        return await map_concurrently(partial(self.read, keep=keep), keys)

    async def read(self, key: bytes, *, keep: bool = False) -> MarkEntry | None:
        """Read a key's mark from the bucket; a lost one is written again if `keep` is set, or the key's shard is owned here."""
        era = -1
        while era != self._era:  # an answer of the earlier bucket does not count
            era, before = self._era, self.standing.get(key)
            found = await self._bucket.mark(self._function, text_of(key))
            if found is not None and found.is_before(before):
                found = await self._surely(key, before)
        known = self.standing.get(key)
        if known is not before:  # written here meanwhile
            if found is None or known is None or known.revision >= found.revision:
                return known or found
        elif found is None:
            if known is not None and known.mark.diverts and (keep or self._is_owned(key)):
                return await self._write_again(known, 0)
            self._forget(key)
            return None
        elif known is not None and not known.revision and (keep or self._is_owned(key)):
            mark = known.mark.over(found.mark, later=found.revision >= self._first, now=time.time())
            if mark != found.mark:
                return await self._write_again(MarkEntry(mark, 0), found.revision)
        self.know(found)
        return found

    async def _surely(self, key: bytes, known: MarkEntry | None) -> MarkEntry | None:
        """Read a mark again that is older than the known one: a former leader has answered, or the bucket went back.

        The bucket's history has not noticed that if nobody has looked at the bucket since the mark was written.
        """
        if not await self._runtime.histories.bucket.follow():
            return known
        found = await self._bucket.mark(self._function, text_of(key))
        if found is not None and self.standing.get(key) is known and found.is_before(known):
            self.distrust(found.revision + 1)
        return found

    def distrust(self, first: int) -> None:
        """The bucket went back: known marks from this revision on have none there, and all marks are read again."""
        self._era += 1
        self._first, self._newest, self._due = first, -1, True
        for key, entry in self.standing.items():
            if entry.revision >= first:
                self.standing[key] = MarkEntry(entry.mark, 0)

    async def write(self, mark: Mark, revision: int) -> MarkEntry | None:
        """Write a mark, and remember it; None if another instance has written first."""
        key, era = raw(mark.key), self._era
        self._writing[key] = mark
        try:
            written = await self._bucket.write(self._function, mark, revision)
        finally:
            self._writing.pop(key, None)
        if written is not None:
            self.know(written if era == self._era else MarkEntry(mark, 0))
        return written

    async def _write_again(self, known: MarkEntry, revision: int) -> MarkEntry | None:
        """Write again the mark of a key that is kept back: the bucket was emptied, made again or put back."""
        written = await self.write(known.mark, revision)
        if written is not None:
            log.warning(
                "%s: the mark of key %s was lost, and is written again", self._function, known.mark.key
            )
        return written or known

    async def rewrite(self) -> None:
        """Write again the marks of keys kept back here that the bucket has lost. Raises JetrunnerError."""
        if await self._bucket.newest(self._function) != self._newest:
            await self._read_all([key for key, entry in self.standing.items() if entry.mark.diverts])

    def know(self, entry: MarkEntry) -> None:
        """Remember a key's mark as it stands in the bucket now."""
        mark = entry.mark
        key = raw(mark.key)
        self._newest = max(self._newest, entry.revision)
        if not mark.worth or mark.positions != self._positions:
            self._forget(key)
            return
        self.standing[key] = entry
        if mark.state == "returning":
            self.due.add(key)
        else:
            self.due.discard(key)

    def _forget(self, key: bytes) -> None:
        self.standing.pop(key, None)
        self.due.discard(key)

    # -- hearing ----------------------------------------------------------------------------------------

    def _heard(self, mark: Mark) -> None:
        key = raw(mark.key)
        known = self.standing.get(key)
        if (known is not None and known.mark == mark) or self._writing.get(key) == mark:
            return
        if key not in self._awaited:
            self._runtime.tasks.start_soon(self._look, key)
        self._awaited[key] = mark

    async def _look(self, key: bytes) -> None:
        """Read a mark until it is the one announced last: that may be on its way into the bucket, or have been refused there."""
        wait = 0.01
        while wait < LOOKING_SECONDS and not self._runtime.connection.closed.is_set():
            awaited = self._awaited[key]
            try:
                entry = await self.read(key)
                if entry is not None and entry.mark == awaited and self._awaited[key] is awaited:
                    break
            except JetrunnerError as error:
                log.debug("the mark of key %r cannot be read yet: %s", key, error)
            await asyncio.sleep(wait)
            wait = wait * 2 if self._awaited[key] is awaited else 0.01
        del self._awaited[key]

    async def _keep_looking(self) -> None:
        """Look at all marks after a lost connection, and now and then."""
        connection = self._runtime.connection
        epoch, looked = connection.wire.epoch, time.monotonic()
        while not connection.closed.is_set():
            await asyncio.sleep(TURN_SECONDS)
            now = time.monotonic()
            lost = self._due or epoch != connection.wire.epoch
            if not connection.is_connected or not (lost or now - looked >= LOOK_SECONDS):
                continue
            looked, seen, self._due = now, connection.wire.epoch, False
            try:
                if lost or await self._bucket.newest(self._function) != self._newest:
                    await self._look_at_all()
                epoch = seen
            except JetrunnerError as error:
                self._due = lost
                log.debug("cannot read the marks of %s: %s", self._function, error)

    async def _look_at_all(self) -> None:
        """Read all marks: some may have been written or removed without an announcement."""
        newest = await self._bucket.newest(self._function)
        names = {raw(text) for _, text in await self._bucket.names(self._function)}
        await self._read_all([*names.union(self.standing)])
        self._newest = newest

    # -- shards -----------------------------------------------------------------------------------------

    def shard_of(self, key: bytes) -> str:
        """The name of a key's shard. It depends only on the key, and on the literal tokens of the function's subject."""
        tokens = self._binding.subject.wildcard.split(".")
        for position, token in zip(self._positions, text_of(key).split("."), strict=False):
            tokens[position] = token
        return self._place(".".join(tokens))

    def _is_owned(self, key: bytes) -> bool:
        life = self._lives.get(self.shard_of(key))
        return life is not None and life.owned


def raw(text: str) -> bytes:
    """A key as it stands in subjects."""
    return text.encode("utf-8", "surrogateescape")


def text_of(key: bytes) -> str:
    """A key as text, as marks hold it."""
    return key.decode("utf-8", "surrogateescape")


def _diverts(entry: MarkEntry | None) -> bool:
    return entry is not None and entry.mark.diverts
