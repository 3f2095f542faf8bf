"""What was stored for the messages of one stream: outputs, fences, dead letters, parked copies. It may be lost where the stream is not.

A server that comes back with an older store has lost what was stored since the copy was made, and takes the messages that
it was made of for unsettled. The stream of those messages is the same where nothing was published to it meanwhile.

Rule 1: of each stream that something was stored in, the newest message of ours is known: its number, and what it is known by.
Rule 2: on a new connection that message has to stand before anything is acknowledged. Where another has its number, or the
        stream ends before it, what is remembered as settled may have lost its outputs: all of that is forgotten.
Rule 3: where it is gone, and the stream goes on above its number, a limit or somebody has removed it: nothing is lost.
Rule 4: a stream in memory is lost with each restart of its server, and is not asked. What stands in a stream that was
        deleted, or that may not be looked at, tells nothing. One that does not answer for 10 s is waited for no longer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from runner.core import header
from runner.core.history import Back, Identity, State, Verdict
from runner.errors import PermissionDenied, ServerError
from runner.jetstream import codes
from runner.jetstream.connection import Connection
from runner.jetstream.messages import leader_message
from runner.jetstream.place import Place

log = logging.getLogger("jetrunner.streams")

PATIENCE_SECONDS = 10.0
"""A stream that does not answer holds up the messages of others for so long."""


class Looks(Protocol):
    """Looks at a stream that something was stored in."""

    async def check(self, *, thorough: bool = True) -> State:
        """How it is. Raises JetrunnerError."""

    async def compare(self, known: Identity) -> Verdict:
        """Whether it is the stream in which `known` was the newest message. Raises JetrunnerError."""


class Stored:
    """Of the messages of one stream."""

    def __init__(self, connection: Connection, look: Callable[[str], Looks]) -> None:
        self.doubted: list[Place] = []
        """What was the newest when the connection was lost; none once that was found to stand, or to be lost."""
        self._connection = connection
        self._look = look
        self._looks: dict[str, Looks] = {}
        self._newest: dict[str, Place] = {}
        self._since = 0.0
        """When the connection was lost."""

    def note(self, place: Place) -> None:
        """It was confirmed just now; of a duplicate the caller says nothing, since that stands further below."""
        if place.sequence:
            self._newest[place.stream] = place

    def lose(self) -> None:
        """The connection is lost: what comes on the next one may be another store's."""
        if not self.doubted:
            self._since = time.monotonic()
        self.doubted += self._newest.values()
        self._newest = {}

    async def lost(self) -> bool:
        """Whether any of what is doubted is lost. Raises `ServerError` while that is not known."""
        for place in list(self.doubted):
            try:
                if await self._lacks(place):
                    log.warning(
                        "stream %s has lost what was stored at %s: what it was made of runs again, unless it is acknowledged there",
                        place.stream, f"{place.sequence:,}",
                    )  # fmt: skip
                    return True
            except ServerError as error:
                if time.monotonic() - self._since < PATIENCE_SECONDS:
                    raise
                log.warning("it is not known whether stream %s went back: %s", place.stream, error)
        return False

    def end(self, places: list[Place], *, stand: bool) -> None:
        """What these were doubted for is known; those that `stand` are the newest unless others came since."""
        self.doubted = [each for each in self.doubted if each not in places]
        for place in reversed(places) if stand else ():
            self._newest.setdefault(place.stream, place)

    async def _lacks(self, place: Place) -> bool:
        looks = self._looks.get(place.stream)
        if looks is None:
            looks = self._looks[place.stream] = self._look(place.stream)
        try:
            now = await looks.check(thorough=False)
            if now.in_memory:
                return False
            if isinstance(await looks.compare(Identity(now.created, place.sequence)), Back):
                return True
            message = await leader_message(self._connection, place.stream, {"seq": place.sequence})
        except PermissionDenied as error:
            log.debug("%s cannot be looked at: %s", place.stream, error)
            return False
        except ServerError as error:
            if error.code != codes.STREAM_NOT_FOUND:
                raise
            return False
        if message is None or message.subject == place.mark:
            return False
        return (header.get(message.header or b"", b"Nats-Msg-Id") or b"").decode(
            errors="replace"
        ) != place.mark
