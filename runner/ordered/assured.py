"""Whether messages of one stream may start: not on a new connection before the stream was found to be the same.

An older store has lost what was done of a key since it was copied: its next message, or the next attempt of one, would start
before those that run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from runner.core.history import NOTHING, Identity
from runner.pipeline.outcomes import Guard
from runner.runtime.history import History


class Assured:
    """The guard of the functions that read the stream in order: what the instance's own allows, and no more."""

    def __init__(self, guard: Guard, history: History) -> None:
        self.until = guard.until
        self.works, self.lease_valid = guard.works, guard.lease_valid
        self._guard = guard
        self._history = history
        self._confirmed = asyncio.Event()
        self._confirmed.set()
        guard.told.append(self._update)
        history.add(self)

    @property
    def told(self) -> list[Callable[[], None]]:
        """Those of the instance's own."""
        return self._guard.told

    @property
    def leaving(self) -> bool:
        """Whether the process gives up what it owns."""
        return self._guard.leaving

    def may_start(self, now: float) -> bool:
        """Whether it may, by the monotonic clock read a moment ago."""
        return self._guard.may_start(now) and self._confirmed.is_set()

    def why(self, now: float) -> str:
        """Why nothing may start, in words; empty where something may."""
        if why := self._guard.why(now):
            return why
        asked = f"it is being asked whether stream {self._history.stream} is the same"
        return "" if self._confirmed.is_set() else asked

    async def wait(self) -> None:
        """Wait until it may."""
        await self._guard.wait()
        while not self._confirmed.is_set():
            await self._confirmed.wait()
            await self._guard.wait()

    def _update(self) -> None:
        self.until = self._guard.until if self._confirmed.is_set() else -inf

    # -- the history of the stream ----------------------------------------------------------------------

    def newest(self) -> Identity:
        """Nothing is remembered here."""
        return NOTHING

    arrived = newest

    def silence(self) -> None:
        """The connection is lost."""
        self._confirmed.clear()
        self._update()

    def confirm(self) -> None:
        """The stream is the same, or what was remembered of another is forgotten."""
        self._confirmed.set()
        self._update()

    def cut(self, _first: int, _known: Identity) -> None:
        """Nothing is remembered here."""
