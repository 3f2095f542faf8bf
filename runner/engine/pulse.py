"""The pulse: whether this process's loop has looked at its sockets a moment ago, and so knows of a lost connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

STALL_SECONDS = 0.03
"""A loop that has not looked at its sockets for so long may not know yet that its connection is gone. Less than the
time between two misses: whoever is taken for dead has stopped by itself."""
TICK_SECONDS = 0.01
LOOK_SECONDS = 0.002
LOOK_TURNS = 3
"""Turns of the loop in which the end of a connection is read and told."""


class Pulse:
    """Beats in the loop about a hundred times a second; `revived` is called when it goes on after a stall."""

    def __init__(self, loop: asyncio.AbstractEventLoop, revived: Callable[[], None]) -> None:
        self._loop = loop
        self._revived = revived
        self.looked = 0.0
        """When the loop last looked at its sockets: a lost connection may hide since then."""
        self._ticked = 0.0
        """When it last had a turn."""

    def start(self) -> None:
        """Start to beat; it ends with the loop."""
        self._tick(0)

    def _tick(self, turns: int) -> None:
        """After a stall the loop has `turns` to read what stands at its sockets, before anything starts."""
        now = time.monotonic()
        if now - self._ticked >= STALL_SECONDS:
            turns = LOOK_TURNS
        self._ticked = now
        if turns:
            self._loop.call_later(LOOK_SECONDS, self._tick, turns - 1)
            return
        stalled = now - self.looked >= STALL_SECONDS
        self.looked = now
        if stalled:
            self._revived()
        self._loop.call_later(TICK_SECONDS, self._tick, 0)
