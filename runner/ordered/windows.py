"""Batches of an ordered function that wait for more messages: each for `linger` seconds, on one timer for all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable


class Windows:
    """The waiting batches of one function, the oldest first: all of them wait equally long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, linger: float) -> None:
        self.linger = linger
        self._loop = loop
        self._open: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, name: Hashable) -> bool:
        """Whether the batch of this name waits."""
        return name in self._open

    def open(self, name: Hashable, due: Callable[[], None]) -> None:
        """Call `due` after `linger` seconds, or as soon as the batch is closed."""
        self._open[name] = time.monotonic() + self.linger, due
        if self._timer is None:
            self._timer = self._loop.call_later(self.linger, self._look)

    def close(self, name: Hashable) -> None:
        """The batch of this name need not wait any longer."""
        if (found := self._open.pop(name, None)) is not None:
            found[1]()

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._open:
            name, (until, due) = next(iter(self._open.items()))
            if until > now:
                self._timer = self._loop.call_later(until - now, self._look)
                return
            del self._open[name]
            due()
