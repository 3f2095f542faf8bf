"""Marks of keys in the bucket: what is kept of a key that is parked, or comes back.

Rule 1: everything is read from the bucket's leader: a replica that lags would let a later message of a key pass.
Rule 2: a mark is written by compare-and-set; who was slower reads what stands, and decides anew.
Rule 3: what stands there and is no mark keeps nothing back, and is written over.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from runner.core import identity, park
from runner.core.checked import Unfit
from runner.core.origin import Origin
from runner.core.park import Letter, Mark
from runner.errors import JetrunnerError
from runner.jetstream import kv
from runner.jetstream.connection import Connection
from runner.jetstream.kv import KV
from runner.jetstream.parked import Name, name_of
from runner.jetstream.tolerant import pass_over
from runner.jetstream.wire import Unsubscribe

FORGOTTEN = "24h"
"""A key that is free again is remembered so long: for messages whose ack was lost in a crash."""
NOTHING = "60s"
"""The same where there is nothing to remember of it."""


class Full(JetrunnerError):  # noqa: N818  named by what happened, as its siblings are
    """Too many dead letters of a key are on their way already."""


class Entry(Struct, frozen=True):
    """A mark, and the revision that the next write must name."""

    mark: Mark
    revision: int
    """0: it is not in the bucket yet, or not any more."""

    def is_before(self, known: Entry | None) -> bool:
        """Whether it was written before one that is known."""
        return known is not None and self.revision < known.revision


class KeyMarks:
    """The marks of one project's keys."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._kv = KV(connection, 0.0)
        self._project = project

    async def names(self, function: str = "*", key: str = "") -> list[Name]:
        """Every key that has a mark, of one function or all; with a key, that one alone."""
        found: list[Name] = []
        for subject in await self._kv.keys(identity.parked_subject(self._project, function, key)):
            name = name_of(subject)
            if name is None:
                pass_over(subject, "it names no key")
            elif not name[1].startswith(identity.HASHED):
                found.append(name)
            elif (entry := await self._at(subject)) is not None:
                found.append((name[0], entry.mark.key))
        return found

    async def mark(self, function: str, key: str) -> Entry | None:
        """A key's mark; None when it has none. What cannot be read counts as one that keeps nothing back."""
        return await self._at(identity.parked_subject(self._project, function, key))

    async def _at(self, subject: str) -> Entry | None:
        entry = await self._kv.leader(subject)
        return self._read(subject, entry) if entry.revision else None

    async def all(self, function: str) -> list[Entry]:
        """The marks of all keys of a function, as any replica has them."""
        found = await self._kv.read([identity.parked_subject(self._project, function)])
        return [
            entry for subject, value in found.items() if (entry := self._read(subject, value)) is not None
        ]

    async def newest(self, function: str) -> int:
        """The revision of the mark of a function that was written last; 0 when there is none."""
        return (await self._kv.leader(identity.parked_subject(self._project, function))).revision

    def _read(self, subject: str, entry: kv.Entry) -> Entry | None:
        """None for what has no key, or stands where its key does not."""
        name = name_of(subject)
        if name is None:
            pass_over(subject, "it names no key")
            return None
        token = name[1]
        why: object = "it is the mark of another key"
        try:
            mark = park.read(entry.value)
            if identity.key_token(mark.key) == token:
                return Entry(mark, entry.revision)
        except Unfit as error:
            why = error
        pass_over(subject, why)
        return None if token.startswith(identity.HASHED) else Entry(park.unmarked(token, ()), entry.revision)

    async def write(self, function: str, mark: Mark, revision: int) -> Entry | None:
        """Write a key's mark if its revision is still this one (0: there is none); None when somebody else has written.

        Raises JetrunnerError for one that nobody could read: what stands there counts.
        """
        subject = identity.parked_subject(self._project, function, mark.key)
        ttl = "" if mark.diverts else FORGOTTEN if mark.worth else NOTHING
        try:
            value = park.encode(mark)
        except Unfit as error:
            raise JetrunnerError(f"the mark of key {mark.key} of {function} is none: {error}") from None
        written = await self._kv.swap(subject, value, revision, ttl)
        if written is not None:
            return Entry(mark, written)
        standing = await self.mark(function, mark.key)  # it may be ours, of a write whose answer was lost
        return standing if standing is not None and standing.mark == mark else None

    async def watch(self, function: str, changed: Callable[[Mark], None]) -> Unsubscribe:
        """Call `changed(mark)` for every mark from now on that somebody writes.

        The server tells it when it comes in: it is not stored yet then, and may still be refused.
        """

        def written(subject: str, value: bytes) -> None:
            entry = self._read(subject, kv.Entry(value, 0))
            if entry is not None:
                changed(entry.mark)

        pattern = identity.parked_subject(self._project, function)
        return await self._kv.watch(pattern, written)

    async def bring_back(self, function: str, key: str, now: float) -> Entry | None:
        """Tell the key's owner to bring it back; None when it is not parked."""

        def change(mark: Mark | None) -> Mark | None:
            if mark is None or mark.state == "free":
                return None
            return mark if mark.state == "returning" else mark.returning(now)

        return await self._change(function, key, change)

    async def skip(
        self, function: str, key: str, head: Origin, letter: Letter | None, now: float
    ) -> Entry | None:
        """Tell the key's owner to bring it back without `head`, whose dead letter goes.

        None when the key does not wait behind that message any more, or it may be at work already.
        """

        def change(mark: Mark | None) -> Mark | None:
            return mark.skipped(letter, now) if mark is not None and mark.waits_behind(head) else None

        return await self._change(function, key, change)

    async def send_back(
        self,
        function: str,
        key: str,
        positions: tuple[int, ...],
        letters: list[Letter],
        now: float,
        *,
        even_parked: bool = False,
    ) -> Entry | None:
        """Have the key's owner run these dead letters; None when the key is parked, unless they may come with it later.

        Raises `Full` when too many are on their way already.
        """

        def change(mark: Mark | None) -> Mark | None:
            before = mark if mark is not None else park.unmarked(key, positions)
            if before.positions != positions:
                if before.diverts:
                    raise JetrunnerError(f"key {key} of {function} is kept back under another ordered_by=")
                before = park.unmarked(key, positions)
            if before.state == "parked" and not even_parked:
                return None
            after = before.asked(letters, now)
            if len(after.letters) > park.MOST_LETTERS:
                raise Full(f"{park.MOST_LETTERS:,} dead letters of key {key} of {function} are on their way")
            return after

        return await self._change(function, key, change)

    async def _change(
        self, function: str, key: str, change: Callable[[Mark | None], Mark | None]
    ) -> Entry | None:
        """Write what a key's mark changes to, whoever writes meanwhile; None where `change` makes no mark of it."""
        while True:
            entry = await self.mark(function, key)
            after = change(entry.mark if entry is not None else None)
            if after is None:
                return None
            if entry is not None and after == entry.mark:
                return entry
            written = await self.write(function, after, entry.revision if entry is not None else 0)
            if written is not None:
                return written
