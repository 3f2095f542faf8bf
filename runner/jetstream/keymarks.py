"""Marks of keys in the bucket: each says whether a key is parked or comes back, and with which dead letters.

Rule 1: marks are read from the bucket's leader: a lagging replica would let a later message of a key pass.
Rule 2: a mark is written by compare-and-set; whoever was slower reads the new mark, and decides again.
Rule 3: a value that is not a mark keeps no messages back, and is overwritten.
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
"""How long a freed key is remembered, for messages whose ack was lost in a crash."""
NOTHING = "60s"
"""How long the mark of a freed key stays if there is nothing to remember."""


class Full(JetrunnerError):  # noqa: N818  named by what happened, as its siblings are
    """Too many dead letters of a key are on their way already."""


class MarkEntry(Struct, frozen=True):
    """A mark, and the revision that the next write must name."""

    mark: Mark
    revision: int
    """0: the mark is not in the bucket yet, or not any more."""

    def is_before(self, known: MarkEntry | None) -> bool:
        """Whether the mark was written before a known one."""
        return known is not None and self.revision < known.revision


class KeyMarks:
    """The marks of one project's keys."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._kv = KV(connection, 0.0)
        self._project = project

    async def names(self, function: str = "*", key: str = "") -> list[Name]:
        """The names of all keys with a mark, of one function or of all; with `key` only that one."""
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

    async def mark(self, function: str, key: str) -> MarkEntry | None:
        """A key's mark; None if it has none. A value that cannot be read counts as a mark that keeps nothing back."""
        return await self._at(identity.parked_subject(self._project, function, key))

    async def _at(self, subject: str) -> MarkEntry | None:
        entry = await self._kv.leader(subject)
        return self._read(subject, entry) if entry.revision else None

    async def all(self, function: str) -> list[MarkEntry]:
        """The marks of all keys of a function, read from any replica."""
        found = await self._kv.read([identity.parked_subject(self._project, function)])
        return [
            entry for subject, value in found.items() if (entry := self._read(subject, value)) is not None
        ]

    async def newest(self, function: str) -> int:
        """The revision of a function's mark that was written last; 0 if there is none."""
        return (await self._kv.leader(identity.parked_subject(self._project, function))).revision

    def _read(self, subject: str, entry: kv.Entry) -> MarkEntry | None:
        """Read a mark; None if its subject has no key, or is not that of its key."""
        name = name_of(subject)
        if name is None:
            pass_over(subject, "it names no key")
            return None
        token = name[1]
        why: object = "it is the mark of another key"
        try:
            mark = park.read(entry.value)
            if identity.key_token(mark.key) == token:
                return MarkEntry(mark, entry.revision)
        except Unfit as error:
            why = error
        pass_over(subject, why)
        return (
            None if token.startswith(identity.HASHED) else MarkEntry(park.unmarked(token, ()), entry.revision)
        )

    async def write(self, function: str, mark: Mark, revision: int) -> MarkEntry | None:
        """Write a key's mark if its revision is still `revision` (0: there is no mark); None if somebody else has written.

        Raises JetrunnerError if nobody could read the mark; then the old one stays.
        """
        subject = identity.parked_subject(self._project, function, mark.key)
        ttl = "" if mark.diverts else FORGOTTEN if mark.worth else NOTHING
        try:
            value = park.encode(mark)
        except Unfit as error:
            raise JetrunnerError(f"the mark of key {mark.key} of {function} is none: {error}") from None
        written = await self._kv.swap(subject, value, revision, ttl)
        if written is not None:
            return MarkEntry(mark, written)
        standing = await self.mark(function, mark.key)  # ours, if the answer was lost
        return standing if standing is not None and standing.mark == mark else None

    async def watch(self, function: str, changed: Callable[[Mark], None]) -> Unsubscribe:
        """Call `changed(mark)` for every mark that is written from now on.

        The server reports a mark when it arrives: the mark is not stored yet then, and may still be refused.
        """

        def written(subject: str, value: bytes) -> None:
            entry = self._read(subject, kv.Entry(value, 0))
            if entry is not None:
                changed(entry.mark)

        pattern = identity.parked_subject(self._project, function)
        return await self._kv.watch(pattern, written)

    async def bring_back(self, function: str, key: str, now: float) -> MarkEntry | None:
        """Have the key's owner bring the key back; None if it is not parked."""

        def change(mark: Mark | None) -> Mark | None:
            if mark is None or mark.state == "free":
                return None
            return mark if mark.state == "returning" else mark.returning(now)

        return await self._change(function, key, change)

    async def skip(
        self, function: str, key: str, head: Origin, letter: Letter | None, now: float
    ) -> MarkEntry | None:
        """Have the key's owner bring the key back without `head`, whose dead letter is removed.

        None if the key does not wait behind that message any more, or the message may already be in work.
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
    ) -> MarkEntry | None:
        """Have the key's owner run these dead letters; None if the key is parked, unless `even_parked` lets them come with it later.

        Raises `Full` if too many are on their way already.
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
    ) -> MarkEntry | None:
        """Change a key's mark by `change`, again if somebody else writes meanwhile; None if `change` gives None."""
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
