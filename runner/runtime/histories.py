"""The histories of all streams that a process reads: looked at on a clock, and whenever the connection is there again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import anyio
from anyio.abc import TaskGroup

from runner.core.deadletter import Pairs
from runner.core.origin import Origin
from runner.errors import JetrunnerError, PermissionDenied
from runner.jetstream import ownstreams
from runner.jetstream.concurrent import gather
from runner.jetstream.connection import Connection
from runner.jetstream.deadletters import original
from runner.jetstream.place import Place
from runner.jetstream.publisher import retry_until
from runner.runtime.floors import Floors
from runner.runtime.history import History

log = logging.getLogger("jetrunner.streams")

START_SECONDS = 20.0
"""A cluster that elects a leader answers again within seconds."""
RETRY_SECONDS = 0.02
LONGEST_RETRY_SECONDS = 2.0


class Histories:
    """One for each stream."""

    def __init__(self, connection: Connection, tasks: TaskGroup) -> None:
        self._connection = connection
        self._tasks = tasks
        self._all: dict[str, History] = {}
        self._waiting = False
        self.sources: list[Callable[[], tuple[str, Place] | None]] = []
        """Each says what it has stored last, and for messages of which stream."""
        self.bucket = self.of(ownstreams.BUCKET_STREAM)
        """That of our bucket: what is written there may be lost there, too."""
        connection.wire.on_lost.append(self._lost)

    def of(self, stream: str) -> History:
        """The stream's, the same each time."""
        found = self._all.get(stream)
        if found is None:
            found = self._all[stream] = History(self._connection, stream)
        return found

    async def begin(self, stream: str, floors: Floors) -> None:
        """Find out whether a stream is the one that was read before. Raises JetrunnerError."""
        history = self.of(stream)
        if not history.begun:
            history.presume(await retry_until(partial(floors.newest, stream), START_SECONDS))
        with suppress(PermissionDenied):  # the history tells of it
            await retry_until(history.check, START_SECONDS, f"stream {stream}")

    async def original(self, place: Origin) -> tuple[Pairs, bytes] | None:
        """Headers and body as they were published; None only when the stream has let go of them. Raises JetrunnerError."""
        return await self.of(place.stream).surely(partial(original, self._connection, place))

    async def keep(self) -> None:
        """Called every few seconds: look at all of them."""
        for history in list(self._all.values()):
            await self.look(history, thorough=False)

    async def look(self, history: History, *, thorough: bool = True) -> None:
        """Look at one, if that can be."""
        try:
            await history.check(thorough=thorough)
        except JetrunnerError as error:
            log.debug("stream %s cannot be looked at: %s", history.stream, error)

    def _lost(self) -> None:
        for newest in self.sources:
            if (found := newest()) is not None:
                stream, place = found
                self.of(stream).stored.note(place)
        for history in self._all.values():
            history.lose()
        if not self._waiting:
            self._waiting = True
            self._tasks.start_soon(self._confirm)

    async def _confirm(self) -> None:
        """Look at all of them once there is a connection again, until each was found."""
        wait, told = RETRY_SECONDS, False
        try:
            while left := [each for each in self._all.values() if each.watched and not each.confirmed]:
                if self._connection.closed.is_set():
                    return
                if self._connection.is_connected:
                    await gather(*map(self.look, left))
                    wait = min(LONGEST_RETRY_SECONDS, wait * 2)
                    left = [each for each in left if not each.confirmed]
                    if left and wait == LONGEST_RETRY_SECONDS and not told:
                        told = True
                        log.warning(
                            "it is not known yet whether %s went back; nothing is acknowledged there meanwhile",
                            ", ".join(each.stream for each in left),
                        )
                else:
                    wait = RETRY_SECONDS
                await anyio.sleep(wait)
        finally:
            self._waiting = False
