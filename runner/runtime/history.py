"""What this process knows of the histories of the streams that it reads, and who is told when one is another.

Rule 1: nothing that was settled is told the server on a connection on which the stream was not found to be the same yet:
        the number may be another message's by now.
Rule 2: a stream is looked at when something begins to read it, when the connection is there again, when a delivery does
        not fit, and on a clock.
Rule 3: that a message is not there is one server's word, which may be a leader's that was deposed. It counts once the stream
        was found to be the same since, by a leader that most of its servers follow, and it is asked for once more.
Rule 4: what is known when the connection is lost is what counts until the stream was found to be the same: the numbers
        that come first on the new connection may be those of another history.
Rule 5: where what was stored for its messages is lost (`stored.py`), they have to run again though the stream is the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from runner.core.history import NOTHING, Back, Identity, Same, State, Verdict, may_lag, void
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
"""A leader that was just elected knows of everything that was confirmed after as long."""


class Reader(Protocol):
    """What remembers messages of a stream by their numbers."""

    def newest(self) -> Identity:
        """The newest message that is known to be the stream's; when that was made does not matter."""

    def arrived(self) -> Identity:
        """The newest of what is here, whether it is known to be the stream's or not."""

    def silence(self) -> None:
        """Tell the server nothing of what is remembered before `confirm`."""

    def confirm(self) -> None:
        """What is remembered is of the stream's history."""

    def cut(self, first: int, known: Identity) -> None:
        """Forget the messages that the stream has lost, from this number to the newest that was known.

        From 0: it has lost none, but what was stored for them. What was settled, or runs, counts no more.
        """


class History:
    """One stream's."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self.stream = stream
        self.changed: list[Callable[[int], None]] = []
        """Called when the stream turns out to be another, with the first number that is another message's."""
        self.looked: list[Callable[[State], None]] = []
        """Called with what each look has found, after that."""
        self.era = 0
        """Counts how often the stream turned out to be another."""
        self._readers: list[Reader] = []
        self._connection = connection
        self._known = NOTHING
        """The newest message that a look has found."""
        self._lost: Identity | None = None
        """What was known when the connection was lost; None once the stream was found to be the same since."""
        self._doubted: list[Identity] = []
        """Messages whose numbers seem to be others' by now."""
        self._found = (-1, "")
        """The connection, and the stream's leader, when all of that was last compared."""
        self._verdicts: dict[Identity, Verdict] = {}
        """Of what others have known, on this connection and in this era."""
        self._verdicts_of = (-1, 0)
        self._blind = False
        """Whether the credentials do not allow to look."""
        self._lagging: dict[Identity, tuple[str, float]] = {}
        """What was known and is not there, by which leader's word, and since when."""
        self._begun = self._ended = 0
        """How many looks."""
        self._thorough = False
        """Whether somebody who waits for the next look wants it thorough."""
        self._looking = asyncio.Lock()
        self.stored = Stored(connection, lambda stream: History(connection, stream))
        self._state: State | None = None

    @property
    def watched(self) -> bool:
        """Whether a reader or a callback is told when the stream turns out to be another."""
        return bool(self._readers or self.changed)

    @property
    def confirmed(self) -> bool:
        """Whether the stream was found to be the same on this connection."""
        return self._lost is None

    @property
    def moment(self) -> tuple[int, int]:
        """Another one once the connection was lost, or the stream turned out to be another."""
        return self._connection.wire.epoch, self.era

    async def still(self, moment: tuple[int, int]) -> bool:
        """Whether numbers that were read at that moment may be acted on; with nothing awaited in between. Raises JetrunnerError."""
        with suppress(PermissionDenied):  # the look on the clock has logged that the right is missing
            await self.check(thorough=False)
        return self.moment == moment

    def add(self, reader: Reader) -> None:
        """It is told from now on."""
        self._readers.append(reader)
        if self._lost is not None:
            reader.silence()

    def remove(self, reader: Reader) -> None:
        """It remembers nothing any more."""
        self._readers.remove(reader)

    def newest(self) -> Identity:
        """The newest message that is known to be of the stream's history."""
        if self._lost is not None:
            return self._lost
        newest = self._known
        for reader in self._readers if self.begun else ():
            newest = newest.newer(reader.newest())
        return Identity(self._known.created, newest.sequence, newest.stored_ns)

    def doubt(self, message: Identity) -> None:
        """Its number may be another's by now. The next look tells more."""
        if self.begun:
            self._doubted.append(Identity(self._known.created, message.sequence, message.stored_ns))

    @property
    def begun(self) -> bool:
        """Whether the stream was looked at before."""
        return self._state is not None

    def presume(self, known: Identity) -> None:
        """What an earlier process knew, before the first look."""
        if self._state is None:
            self._known = known

    def lose(self) -> None:
        """The connection is lost; all that came on it is of one history, which is known only if it was confirmed."""
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

    async def check(self, *, thorough: bool = True) -> State:
        """How the stream is, once its readers know whether it is the same. Raises JetrunnerError.

        It is asked after the call, once for all who call meanwhile. Unless that has to be `thorough`, numbers that rise
        are enough where neither the connection nor the stream's leader has changed.
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

    async def _look(self, *, thorough: bool) -> State:
        epoch, before, doubted = self._connection.wire.epoch, self.newest(), list(self._doubted)
        stored = list(self.stored.doubted)
        try:
            now = await look(self._connection, self.stream)
        except PermissionDenied as error:
            if not self._blind:
                self._blind = True
                log.warning("%s: %s; should the stream go back, nothing tells", self.stream, error)
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

    async def _cuts(self, compared: Sequence[Identity], now: State) -> list[int]:
        verdicts = [await self._compare(known, now) for known in compared]
        return [first for verdict in verdicts if (first := void(verdict)) is not None]

    async def compare(self, known: Identity) -> Verdict:
        """Whether the stream is the one in which `known` was the newest message. Raises JetrunnerError."""
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
        """What is found in the stream; None only where nothing is. Raises JetrunnerError while that is not sure."""
        found = await ask()
        if found is None and await self.follow():
            found = await ask()
        return found

    async def follow(self) -> bool:
        """Whether the stream can be looked at. Raises JetrunnerError unless its leader has what is known, and is followed."""
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

    async def _compare(self, known: Identity, now: State) -> Verdict:
        if not may_lag(known, now):
            self._lagging.pop(known, None)
        elif not self._lags(known, now):
            raise Unconfirmed(
                f"{self.stream} ends at {now.last:,}, before {known.sequence:,}: its leader may be behind"
            )
        try:
            return await compare(self._connection, self.stream, known, now)
        except PermissionDenied as error:  # numbers tell something, too
            log.debug("messages of %s cannot be looked at: %s", self.stream, error)
            return Back(now.last + 1) if now.last < known.sequence else Same()

    def _lags(self, known: Identity, now: State) -> bool:
        """Whether its leader has said so for a while, and most of the stream's servers have answered it meanwhile."""
        leader, since = self._lagging.setdefault(known, (now.leader, time.monotonic()))
        if leader != now.leader:
            self._lagging[known] = now.leader, time.monotonic()
            return False
        seconds = time.monotonic() - since
        return seconds > LAG_SECONDS and now.led(seconds)


def _tell(stream: str, before: Identity, now: State, first: int) -> None:
    if before.created != now.created:
        log.warning(
            "stream %s was deleted and made again: what was remembered of its messages is dropped,"
            " and what is stored in it now runs",
            stream,
        )
        return
    others = f", and holds others up to {now.last:,} by now" if now.last >= first else ""
    log.warning(
        "stream %s went back from %s to %s%s: what had been stored after %s is lost, what is stored now runs",
        stream, f"{before.sequence:,}", f"{first - 1:,}", others, f"{first - 1:,}",
    )  # fmt: skip
