"""Which stream captures which subject, as the server has it now."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from typing import Any

import anyio

from runner.core import subject as subjects
from runner.errors import JetrunnerError, NoConfirmation, NoStream
from runner.jetstream.connection import Connection
from runner.jetstream.listing import incomplete, listed
from runner.jetstream.publisher import retry_until

log = logging.getLogger("jetrunner.topology")

REFRESH_SECONDS = 1.0
"""Least time between two questions to the server, in seconds."""


class Topology:
    """The streams of the account: loaded once, and again if a subject is not found or an answer shows a change."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._streams: dict[str, dict[str, Any]] = {}
        self._found: dict[str, str] = {}
        self._loaded = 0.0
        self._refreshed = 0.0
        self._loading = anyio.Lock()
        self.version = 0
        """How many times the streams were loaded."""
        self.outdated = False
        """Whether an answer has shown a change: then they are loaded again at the next question."""
        self.lacking: tuple[str, ...] = ()
        """Names of streams whose configuration is not known."""

    async def load(self) -> None:
        """Read all streams' configurations. If the server cannot tell of a stream, its known configuration stays."""
        listing = await listed(self._connection, "STREAM.LIST", "streams")
        known = {name: self._streams[name] for name in listing.lacking if name in self._streams}
        self._streams = known | {name: info["config"] for name, info in listing.told.items()}
        self.lacking = tuple(name for name in listing.lacking if name not in known)
        self._found = {}
        self._loaded = time.monotonic()
        self.version += 1
        self.outdated = False

    async def renew(self, version: int) -> None:
        """Load again, because this version was wrong, unless somebody has loaded since."""
        async with self._loading:
            if self.version == version:
                await anyio.sleep(max(0.0, self._loaded + REFRESH_SECONDS - time.monotonic()))
                await retry_until(self.load, math.inf, "the list of streams")

    async def refresh(self) -> None:
        """Load again because an answer has not come, at most once a second; configurations that the server does not tell stay."""
        async with self._loading:
            if time.monotonic() - self._refreshed >= REFRESH_SECONDS:
                try:
                    await self.load()
                except JetrunnerError as error:
                    log.debug("the list of streams: %s", error)
                self._refreshed = time.monotonic()

    async def doubt(self, subjects: Iterable[str]) -> None:
        """Look again after missing answers to messages on these subjects. Raises `NoConfirmation` if no answer can come."""
        await self.refresh()
        for subject in subjects:  # a subject may belong to another stream by now
            self.require_confirmation(self.known(subject) or "")

    def require_confirmation(self, stream: str) -> None:
        """Raise `NoConfirmation` if a stream answers no publish."""
        if self.config(stream).get("no_ack"):
            raise NoConfirmation(
                f"stream {stream} confirms nothing (no_ack = true): whether it stores an output is not to be known",
                hint="set no_ack = false on the stream",
            )

    @property
    def streams(self) -> dict[str, dict[str, Any]]:
        """Stream configurations by name, in the server's own form."""
        return self._streams

    def config(self, stream: str) -> dict[str, Any]:
        """A stream's configuration; empty if there is no such stream."""
        return self._streams.get(stream, {})

    def replicas(self, read: Iterable[str], written: Iterable[str]) -> int:
        """The highest number of replicas among the streams that are read, or that capture a written subject."""
        outputs = [*written]
        names = {*read}
        for name, config in self._streams.items():
            if any(subjects.covers(each, out) for each in config.get("subjects") or () for out in outputs):
                names.add(name)
        return max((self.config(name).get("num_replicas", 1) for name in names), default=1)

    def known(self, subject: str) -> str | None:
        """The stream that captures a literal subject; None if none is known."""
        found = self._found.get(subject)
        if found is None:
            for name, config in self._streams.items():
                if any(subjects.matches(pattern, subject) for pattern in config.get("subjects") or ()):
                    found = name
                    break
            else:
                return None
            if len(self._found) > 100_000:  # subjects may come from data: the cache is limited
                self._found.clear()
            self._found[subject] = found
        return found

    async def find(self, subject: str) -> str:
        """The stream that captures a literal subject; asks the server again before it raises `NoStream`.

        Raises `Incomplete` if it may be a stream that the server cannot tell of now.
        """
        found = None if self.outdated else self.known(subject)
        if found is None and time.monotonic() - self._loaded > REFRESH_SECONDS:
            await self.load()
        found = found or self.known(subject)
        if found is None and self.lacking:
            raise incomplete("streams", self.lacking, f"no other stream captures {subject}")
        if found is None:
            raise NoStream(
                f"no stream captures {subject}", hint="declare one in streams/ and run `runner apply`"
            )
        return found
