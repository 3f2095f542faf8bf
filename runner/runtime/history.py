"""Watches the histories of the streams that this process reads, and tells readers when a stream has become another.

Rule 1: on a new connection nothing is settled at the server before the stream was found to be the same: a sequence may name another
        message by now.
Rule 2: a stream is checked when something begins to read it, after a new connection, when a delivery does not fit, and every few
        seconds.
Rule 3: if one server says that a message is not there, it may be a deposed leader. Its word counts only once a leader that most
        servers follow has confirmed the stream since, and the message was asked for once more.
Rule 4: until the stream is confirmed again, it is compared with what was known when the connection was lost: the first sequences on
        the new connection may belong to another history.
Rule 5: if messages stored for its messages were lost (`stored.py`), the latter run again, though the stream is the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from runner.core.history import NOTHING, Back, Identity, Same, StreamState, Verdict, may_lag, void
from runner.errors import PermissionDenied, ServerError, Unconfirmed
from runner.jetstream import codes
from runner.jetstream.concurrent import gather
from runner.jetstream.connection import Connection
from runner.jetstream.history import compare, look
from runner.runtime.stored import Stored

log = logging.getLogger("jetrunner.streams")
Found = TypeVar("Found")

MOST_VERDICTS = 1_000
LAG_SECONDS = 2.0
"""Time after which a newly elected leader knows all confirmed messages."""


class StreamMemory(Protocol):
    """An object that remembers messages of a stream by their sequences."""

    def newest(self) -> Identity:
        """The newest message that is known to belong to the stream; `created` may be empty."""

    def arrived(self) -> Identity:
        """The newest message here, whether it is known to belong to the stream or not."""

    def silence(self) -> None:
        """Settle no remembered message at the server before `confirm`."""

    def confirm(self) -> None:
        """The remembered messages belong to the stream's history: they may be settled."""

    def cut(self, first: int, known: Identity) -> None:
        """Forget the messages that the stream has lost: those from `first` to the newest known one.

        With `first=0` only messages stored for its messages were lost. Settlements and running handlers then no longer count.
        """


class History:
    """The history of one stream."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self.stream = stream
        self.changed: list[Callable[[int], None]] = []
        """Called when the stream has become another, with the first sequence that names another message."""
        self.looked: list[Callable[[StreamState], None]] = []
        """Called after that, with the result of each check."""
        self.era = 0
        """How many times the stream has become another."""
        self._readers: list[StreamMemory] = []
        self._connection = connection
        self._known = NOTHING
        """The newest message that a check has found."""
        self._lost: Identity | None = None
        """The newest message known when the connection was lost; None once the stream was confirmed."""
        self._doubted: list[Identity] = []
        """Messages whose sequences seem to name other messages by now."""
        self._found = (-1, "")
        """The connection, and the stream's leader, at the last full comparison."""
        self._verdicts: dict[Identity, Verdict] = {}
        """Results of `compare` on this connection and in this era."""
        self._verdicts_of = (-1, 0)
        self._blind = False
        """Whether the credentials do not allow to check the stream."""
        self._lagging: dict[Identity, tuple[str, float]] = {}
        """Known messages that a leader does not have: which leader said so, and since when."""
        self._begun = self._ended = 0
        """How many checks have begun and ended."""
        self._thorough = False
        """Whether somebody who waits for the next check wants it thorough."""
        self._looking = asyncio.Lock()
        self.stored = Stored(connection, lambda stream: History(connection, stream))
        self._state: StreamState | None = None

    @property
    def watched(self) -> bool:
        """Whether a reader or a callback is told when the stream becomes another."""
        return bool(self._readers or self.changed)

    @property
    def confirmed(self) -> bool:
        """Whether the stream was confirmed on this connection."""
        return self._lost is None

    @property
    def moment(self) -> tuple[int, int]:
        """A value that changes when the connection is lost, or the stream becomes another."""
        return self._connection.wire.epoch, self.era

    async def still(self, moment: tuple[int, int]) -> bool:
        """Whether sequences read at that moment still hold; act on them before the next await. Raises JetrunnerError."""
        with suppress(PermissionDenied):  # the regular check has logged the missing right
            await self.check(thorough=False)
        return self.moment == moment

    def add(self, reader: StreamMemory) -> None:
        """Tell a reader of changes from now on."""
        self._readers.append(reader)
        if self._lost is not None:
            reader.silence()

    def remove(self, reader: StreamMemory) -> None:
        """Stop telling a reader, because it remembers nothing any more."""
        self._readers.remove(reader)

    def newest(self) -> Identity:
        """The newest message that is known to belong to the stream's history."""
        if self._lost is not None:
            return self._lost
        newest = self._known
        for reader in self._readers if self.begun else ():
            newest = newest.newer(reader.newest())
        return Identity(self._known.created, newest.sequence, newest.stored_ns)

    def doubt(self, message: Identity) -> None:
        """Have the next check compare a message whose sequence may name another one by now."""
        if self.begun:
            self._doubted.append(Identity(self._known.created, message.sequence, message.stored_ns))

    @property
    def begun(self) -> bool:
        """Whether the stream was checked before."""
        return self._state is not None

    def presume(self, known: Identity) -> None:
        """Take over what an earlier process knew, before the first check."""
        if self._state is None:
            self._known = known

    def lose(self) -> None:
        """Note a lost connection. All that came on it belongs to one history, known only if the stream was confirmed on it."""
        self.stored.lose()
        arrived = NOTHING
        for reader in self._readers:
            arrived = arrived.newer(reader.arrived())
            reader.silence()
        if self._lost is not None:
            self.doubt(arrived)
        elif not self.begun:
            self._lost = self._known
        else:
            newest = self.newest().newer(arrived)
            self._lost = Identity(self._known.created, newest.sequence, newest.stored_ns)

    async def check(self, *, thorough: bool = True) -> StreamState:
        """The state of the stream, once its readers know whether it is the same. Raises JetrunnerError.

        The server is asked after the call, once for all calls that wait. If neither the connection nor the leader has changed, and
        the check is not `thorough`, it is enough that sequences have not fallen.
        """
        mine = self._begun + 1
        self._thorough |= thorough
        async with self._looking:
            if self._state is None or self._ended < mine:
                self._begun += 1
                thorough, self._thorough = self._thorough, False
                self._state = await self._look(thorough=thorough)
                self._ended = self._begun
            return self._state

    async def _look(self, *, thorough: bool) -> StreamState:
        epoch, before, doubted = self._connection.wire.epoch, self.newest(), list(self._doubted)
        stored = list(self.stored.doubted)
        try:
            now = await look(self._connection, self.stream)
        except PermissionDenied as error:
            if not self._blind:
                self._blind = True
                log.warning("%s: %s; whether the stream goes back cannot be noticed", self.stream, error)
            self.stored.end(stored, stand=True)
            self._confirm()
            raise
        found = epoch, now.leader
        rises = before.created in ("", now.created) and now.last >= before.sequence
        plain = rises and self.confirmed and found == self._found and not thorough and not doubted
        compared = [] if plain else [before, *doubted]
        cuts, stored_lost = await gather(self._cuts(compared, now), self.stored.lost())
        if epoch != self._connection.wire.epoch:
            raise Unconfirmed(f"the connection was lost while {self.stream} was looked at")
        self.stored.end(stored, stand=not stored_lost)
        self.era += bool(cuts or stored_lost)
        if cuts:
            _tell(self.stream, before, now, min(cuts))
        self._known, self._found = now.newest, found
        del self._doubted[: len(doubted)]
        latest = max((before, *doubted), key=lambda each: each.stored_ns)
        for reader in list(self._readers) if cuts else ():
            reader.cut(min(cuts), latest)
        for reader in list(self._readers) if stored_lost else ():
            reader.cut(0, latest)
        for changed in self.changed if cuts or stored_lost else ():
            changed(min(cuts, default=now.last + 1))
        self._confirm()
        for told in self.looked:
            told(now)
        return now

    def _confirm(self) -> None:
        if not self.confirmed:
            self._lost = None
            for reader in list(self._readers):
                reader.confirm()

    async def _cuts(self, compared: Sequence[Identity], now: StreamState) -> list[int]:
        verdicts = [await self._compare(known, now) for known in compared]
        return [first for verdict in verdicts if (first := void(verdict)) is not None]

    async def compare(self, known: Identity) -> Verdict:
        """Whether the stream is still the one in which `known` was the newest message. Raises JetrunnerError."""
        now = await self.check(thorough=False)
        place = self._connection.wire.epoch, self.era
        if self._verdicts_of != place or len(self._verdicts) > MOST_VERDICTS:
            self._verdicts, self._verdicts_of = {}, place
        found = self._verdicts.get(known)
        if found is None:
            found = await self._compare(known, now)
            if self._verdicts_of == (self._connection.wire.epoch, self.era):
                self._verdicts[known] = found
        return found

    async def surely(self, ask: Callable[[], Awaitable[Found | None]]) -> Found | None:
        """The result of `ask`. It is None only if the message is surely not there; while that is not sure, JetrunnerError is raised."""
        found = await ask()
        if found is None and await self.follow():
            found = await ask()
        return found

    async def follow(self) -> bool:
        """Whether the stream can be checked. Raises JetrunnerError unless its leader has all known messages and most servers follow it."""
        try:
            now = await self.check()
        except PermissionDenied:
            return False
        except ServerError as error:
            if error.code != codes.STREAM_NOT_FOUND:
                raise
            return False
        if not now.led(LAG_SECONDS):
            raise Unconfirmed(f"most servers of {self.stream} do not answer its leader")
        return True

    async def _compare(self, known: Identity, now: StreamState) -> Verdict:
        if not may_lag(known, now):
            self._lagging.pop(known, None)
        elif not self._lags(known, now):
            raise Unconfirmed(
                f"{self.stream} ends at {now.last:,}, before {known.sequence:,}: its leader may be behind"
            )
        try:
            return await compare(self._connection, self.stream, known, now)
        except PermissionDenied as error:  # sequences alone tell something, too
            log.debug("cannot read messages of %s: %s", self.stream, error)
            return Back(now.last + 1) if now.last < known.sequence else Same()

    def _lags(self, known: Identity, now: StreamState) -> bool:
        """Whether the leader has said so for over 2 s, and most of the stream's servers have answered it meanwhile."""
        leader, since = self._lagging.setdefault(known, (now.leader, time.monotonic()))
        if leader != now.leader:
            self._lagging[known] = now.leader, time.monotonic()
            return False
        seconds = time.monotonic() - since
        return seconds > LAG_SECONDS and now.led(seconds)


def _tell(stream: str, before: Identity, now: StreamState, first: int) -> None:
    if before.created != now.created:
        log.warning("stream %s was deleted and created again: its messages are handled as new", stream)
        return
    others = f", and holds others up to {now.last:,} by now" if now.last >= first else ""
    log.warning(
        "stream %s went back from %s to %s%s: messages after %s are lost, and those stored now are handled as new",
        stream, f"{before.sequence:,}", f"{first - 1:,}", others, f"{first - 1:,}",
    )  # fmt: skip
