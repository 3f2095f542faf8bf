"""The histories of all streams that a process reads: they are checked every few seconds, and after each new connection."""

from __future__ import annotations

import logging
import time
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
"""How long a start waits for the server: a cluster that elects a leader answers again within seconds."""
RETRY_SECONDS = 0.02
LONGEST_RETRY_SECONDS = 2.0


class Histories:
    """The histories of all streams, one for each."""

    def __init__(self, connection: Connection, tasks: TaskGroup) -> None:
        self._connection = connection
        self._tasks = tasks
        self._all: dict[str, History] = {}
        self._waiting = False
        self.sources: list[Callable[[], tuple[str, Place, float] | None]] = []
        """Each gives the stream of some messages, the last message that was made from them, and the monotonic time of its confirmation."""
        self.bucket = self.of(ownstreams.BUCKET_STREAM)
        """The history of our own bucket, which may go back, too."""
        connection.wire.on_lost.append(self._lost)

    def of(self, stream: str) -> History:
        """The history of a stream; always the same object."""
        found = self._all.get(stream)
        if found is None:
            found = self._all[stream] = History(self._connection, stream)
        return found

    async def begin(self, stream: str, floors: Floors) -> None:
        """Find out whether a stream is the same that was read before. Raises JetrunnerError."""
        history = self.of(stream)
        if not history.begun:
            history.presume(await retry_until(partial(floors.newest, stream), START_SECONDS))
        with suppress(PermissionDenied):  # the history has logged that the right is missing
            await retry_until(history.check, START_SECONDS, f"stream {stream}")

    async def original(self, place: Origin) -> tuple[Pairs, bytes] | None:
        """Headers and body of a message as published; None only if the stream has removed it. Raises JetrunnerError."""
        return await self.of(place.stream).surely(partial(original, self._connection, place))

    async def keep(self) -> None:
        """Check all streams; called every few seconds."""
        for history in list(self._all.values()):
            await self.look(history, thorough=False)

    async def look(self, history: History, *, thorough: bool = True) -> None:
        """Check one stream, if it can be reached."""
        try:
            await history.check(thorough=thorough)
        except JetrunnerError as error:
            log.debug("cannot read stream %s: %s", history.stream, error)

    def _lost(self) -> None:
        for newest in self.sources:
            if (found := newest()) is not None:
                stream, place, confirmed = found
                self.of(stream).stored.note(place, time.monotonic() - confirmed)
        for history in self._all.values():
            history.lose()
        if not self._waiting:
            self._waiting = True
            self._tasks.start_soon(self._confirm)

    async def _confirm(self) -> None:
        """Check all streams after a new connection, until each is confirmed."""
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
                            "cannot check yet whether streams went back, and acknowledges nothing there meanwhile: %s",
                            ", ".join(each.stream for each in left),
                        )
                else:
                    wait = RETRY_SECONDS
                await anyio.sleep(wait)
        finally:
            self._waiting = False
