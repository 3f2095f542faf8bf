"""The last error of a message, kept for its dead letter in case it grows too old before it runs again.

Only functions with a `max_age` keep it, in the bucket: another instance, or the next process, may be the one that finds the
message too old. Losing it loses no message, so nothing waits for it for long.
"""

from __future__ import annotations

import logging
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from runner.core import checked
from runner.core.checked import Count, Unfit
from runner.core.settlement import Last
from runner.errors import JetrunnerError
from runner.jetstream.kv import KV
from runner.pipeline.message import Incoming
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.settling")

STORE_SECONDS = 1.0
KEPT_SECONDS = 24 * 3600
"""The error outlives the message's `max_age` by as much, because no instance may run when that ends."""
LONGEST = 4_096
"""The most characters of each text that is kept."""


class Noted(Struct, frozen=True):
    """The last error of one message, as it is kept in the bucket."""

    stored: Count
    """When its message was stored, in nanoseconds of Unix time."""
    error: Annotated[str, Meta(max_length=LONGEST)]
    message: Annotated[str, Meta(max_length=LONGEST)]
    traceback: Annotated[str, Meta(max_length=LONGEST)]


_decode = checked.json(Noted)


class LastErrors:
    """The last errors of one function's messages."""

    def __init__(self, runtime: Runtime, function: str) -> None:
        self._connection = runtime.connection
        self._kv = runtime.kv
        self._tasks = runtime.tasks
        self._project = runtime.project
        self._function = function

    async def note(self, incoming: Incoming, last: Last, left: float) -> None:
        """Keep an error; the message is too old in `left` seconds."""
        noted = Noted(
            incoming.stored_ns, _plain(last.error), _plain(last.message), _plain(last.traceback, tail=True)
        )
        ttl = f"{int(max(0.0, left)) + KEPT_SECONDS}s"
        try:
            await KV(self._connection).put(
                self._key(incoming), msgspec.json.encode(noted), ttl, STORE_SECONDS
            )
        except (JetrunnerError, ValueError) as error:
            log.debug("%s: the error of %s cannot be kept: %s", self._function, incoming.id, error)

    async def of(self, incoming: Incoming) -> Last | None:
        """The last error of the message; None if it is not known."""
        try:
            value, revision = await self._kv.get(self._key(incoming))
            noted = _decode(value) if revision else None
        except (JetrunnerError, Unfit) as error:
            log.debug("%s: the last error of %s cannot be read: %s", self._function, incoming.id, error)
            return None
        if noted is None or noted.stored != incoming.stored_ns:
            return None
        return Last(noted.error, noted.message, noted.traceback)

    def forget(self, incoming: Incoming) -> None:
        """Remove the error of a settled message. Nothing waits for that."""
        self._tasks.start_soon(self._drop, incoming)

    async def _drop(self, incoming: Incoming) -> None:
        try:
            await self._kv.remove(self._key(incoming))
        except JetrunnerError as error:  # it expires by itself
            log.debug(
                "%s: the last error of %s cannot be deleted yet: %s", self._function, incoming.id, error
            )

    def _key(self, incoming: Incoming) -> str:
        return f"error.{self._project}.{self._function}.{incoming.stream}.{incoming.sequence}"


def _plain(text: str, *, tail: bool = False) -> str:
    """The text, cut, and without characters that JSON cannot hold. A traceback keeps its end, which says most."""
    if len(text) > LONGEST:  # `…` marks the cut: code that hides values must see that something is missing
        text = "…" + text[1 - LONGEST :] if tail else text[: LONGEST - 1] + "…"
    return text.encode("utf-8", "replace").decode()
