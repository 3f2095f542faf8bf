"""Whether messages of one stream may start: on a new connection only once the stream is known to be the same.

In an older copy, messages of a key that were done since are unsettled, and run again. The next message of the key must not start
before them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from runner.core.history import NOTHING, Identity
from runner.pipeline.outcomes import StartGuard
from runner.runtime.history import History


class Assured:
    """The guard of the functions that read the stream in order: it allows no more than the instance's own guard does."""

    def __init__(self, guard: StartGuard, history: History) -> None:
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
        """The callbacks of the instance's own guard."""
        return self._guard.told

    @property
    def leaving(self) -> bool:
        """Whether the process gives up what it owns."""
        return self._guard.leaving

    def may_start(self, now: float) -> bool:
        """Whether ordered work may start; `now` is a reading of the monotonic clock from a moment ago."""
        return self._guard.may_start(now) and self._confirmed.is_set()

    def why(self, now: float) -> str:
        """Why no message may start, in words; empty if messages may start."""
        if why := self._guard.why(now):
            return why
        asked = f"it is being asked whether stream {self._history.stream} is the same"
        return "" if self._confirmed.is_set() else asked

    async def wait(self) -> None:
        """Wait until messages may start."""
        await self._guard.wait()
        while not self._confirmed.is_set():
            await self._confirmed.wait()
            await self._guard.wait()

    def _update(self) -> None:
        self.until = self._guard.until if self._confirmed.is_set() else -inf

    # -- the history of the stream ----------------------------------------------------------------------

    def newest(self) -> Identity:
        """The guard remembers no message."""
        return NOTHING

    arrived = newest

    def silence(self) -> None:
        """The connection is lost: no message starts until `confirm`."""
        self._confirmed.clear()
        self._update()

    def confirm(self) -> None:
        """The stream is the same, or all messages of another one are forgotten: messages may start again."""
        self._confirmed.set()
        self._update()

    def cut(self, _first: int, _known: Identity) -> None:
        """The guard has nothing to forget."""
