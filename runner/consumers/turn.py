"""A turn to change the durables of a function: one instance has it at a time, and none begins to read in the meantime.

Rule 1: an instance asks what others read, and acts on their answers, within one turn. An instance begins to read within a turn,
        too, because it would not have heard the question before.
Rule 2: an instance confirms its turn before each change. A turn that was not confirmed for 10 s may be taken by another, because
        its instance is gone.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio

from runner.errors import JetrunnerError, PermissionDenied, ServerError
from runner.jetstream import codes
from runner.jetstream.kv import KV

LAPSED_SECONDS = 10.0
LOOK_SECONDS = 0.05
GIVE_SECONDS = 1.0


class TurnLost(Exception):  # noqa: N818  # an error is named by what happened
    """Another instance has taken the turn."""


class Turn:
    """The turn of one instance, as a context manager; entering waits until the instance has it."""

    def __init__(self, kv: KV, project: str, function: str, instance: str) -> None:
        self._kv = kv
        self._key = f"reading.{project}.{function}"
        self._me = instance.encode()
        self._revision = -1
        """Revision of the key as written here; -1 if there is no bucket that may be written: then there are no turns."""

    async def __aenter__(self) -> Self:
        seen, since = -1, time.monotonic()
        while True:
            try:
                value, revision = await self._kv.leader(self._key)
                if revision != seen:
                    seen, since = revision, time.monotonic()
                if not value or value == self._me or time.monotonic() - since > LAPSED_SECONDS:
                    taken = await self._kv.swap(self._key, self._me, revision)
                    if taken is not None:
                        self._revision = taken
                        return self
            except PermissionDenied:
                return self
            except ServerError as error:
                if error.code != codes.STREAM_NOT_FOUND:
                    raise
                return self  # there is no bucket
            await asyncio.sleep(LOOK_SECONDS)

    async def confirm(self) -> None:
        """Confirm that the turn is still ours. Raises `TurnLost`."""
        if self._revision >= 0:
            revision = await self._kv.swap(self._key, self._me, self._revision)
            if revision is None:
                self._revision = -1
                raise TurnLost
            self._revision = revision

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._revision >= 0:
            with suppress(JetrunnerError), anyio.move_on_after(GIVE_SECONDS, shield=True):  # else it lapses
                await self._kv.swap(self._key, b"", self._revision)
