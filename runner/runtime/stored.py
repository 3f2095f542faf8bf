"""Messages stored for those of one stream: outputs, fences, dead letters, parked copies. They may be lost while the stream is not.

A server that comes back with an older store has lost what was stored after the copy was made. It takes the inputs of those messages
for unsettled. The inputs' stream is unchanged if nothing was published to it meanwhile.

Rule 1: for each stream that something was stored in, the newest message of ours is known: its sequence and its mark.
Rule 2: on a new connection that message must still be there before anything is acknowledged. If another message has its sequence,
        or the stream ends before it, inputs remembered as settled may have lost their outputs: all these are forgotten.
Rule 3: if the message is gone, but the stream continues above its sequence, a limit or somebody has removed it: nothing is lost.
Rule 4: a stream in memory is lost with each restart of its server, and is not checked. Streams that were deleted, or that may not
        be read, tell nothing; nor does one that was made after the message was stored: somebody has deleted the one that held it.
        A stream that does not answer for 10 s is not waited for any longer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from runner.core import header
from runner.core.history import Back, Identity, StreamState, Verdict
from runner.errors import PermissionDenied, ServerError
from runner.jetstream import codes
from runner.jetstream.connection import Connection
from runner.jetstream.messages import leader_message, nanoseconds
from runner.jetstream.place import Place

log = logging.getLogger("jetrunner.streams")

PATIENCE_SECONDS = 10.0
"""How long a stream that does not answer delays messages of other streams."""
CLOCKS_SECONDS = 1.0
"""By how much the clocks of a cluster's servers may differ."""


class ConfirmedPlace(NamedTuple):
    """A stored message, and by when it was stored."""

    place: Place
    by: float
    """Unix time at the server."""


class Looks(Protocol):
    """Checks a stream that something was stored in."""

    async def check(self, *, thorough: bool = True) -> StreamState:
        """The stream's state. Raises JetrunnerError."""

    async def compare(self, known: Identity) -> Verdict:
        """Whether it is still the stream in which `known` was the newest message. Raises JetrunnerError."""


class Stored:
    """Watches what was stored for the messages of one stream."""

    def __init__(self, connection: Connection, look: Callable[[str], Looks]) -> None:
        self.doubted: list[ConfirmedPlace] = []
        """The newest stored messages when the connection was lost; empty once each was found there, or lost."""
        self._connection = connection
        self._look = look
        self._looks: dict[str, Looks] = {}
        self._newest: dict[str, ConfirmedPlace] = {}
        self._since = 0.0
        """When the connection was lost."""

    def note(self, place: Place, ago: float = 0.0) -> None:
        """Note a message that was confirmed `ago` seconds ago. Duplicates are not noted, because they stand further below."""
        noted = ConfirmedPlace(place, self._connection.clock.now() - ago)
        before = self._newest.get(place.stream)
        if place.sequence and (before is None or before.by <= noted.by):
            self._newest[place.stream] = noted

    def lose(self) -> None:
        """Note a lost connection: the next one may lead to another store."""
        if not self.doubted:
            self._since = time.monotonic()
        self.doubted += self._newest.values()
        self._newest = {}

    async def lost(self) -> bool:
        """Whether a doubted message is lost. Raises `ServerError` while that is not known."""
        for noted in list(self.doubted):
            place = noted.place
            try:
                if await self._lacks(noted):
                    log.warning(
                        "stream %s has lost what was stored at %s: the messages that it was made of run again, unless they are acknowledged there",
                        place.stream, f"{place.sequence:,}",
                    )  # fmt: skip
                    return True
            except ServerError as error:
                if time.monotonic() - self._since < PATIENCE_SECONDS:
                    raise
                log.warning("cannot check whether stream %s went back: %s", place.stream, error)
        return False

    def end(self, messages: list[ConfirmedPlace], *, stand: bool) -> None:
        """End the doubt about these messages. Those that `stand` become the newest again, unless later ones came."""
        self.doubted = [each for each in self.doubted if each not in messages]
        for noted in reversed(messages) if stand else ():
            self._newest.setdefault(noted.place.stream, noted)

    async def _lacks(self, noted: ConfirmedPlace) -> bool:
        place = noted.place
        looks = self._looks.get(place.stream)
        if looks is None:
            looks = self._looks[place.stream] = self._look(place.stream)
        try:
            now = await looks.check(thorough=False)
            if now.in_memory or nanoseconds(now.created) / 1e9 > noted.by + CLOCKS_SECONDS:
                return False
            if isinstance(await looks.compare(Identity(now.created, place.sequence)), Back):
                return True
            message = await leader_message(self._connection, place.stream, {"seq": place.sequence})
        except PermissionDenied as error:
            log.debug("cannot read %s: %s", place.stream, error)
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
