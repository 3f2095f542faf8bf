"""The sweep: it ends requests at their deadlines, to 10 ms, and looks for instances that do not answer.

A timer for each request would cost 4 to 5 µs. Instead, requests that are due within 0.5 s are kept in lists, one for each 10 ms.
Every 250 ms, requests that have come within 0.5 s of their deadline move there. While no request waits, the sweeper does not run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from runner.requests.outgoingrequest import OutgoingRequest, Try
from runner.requests.tries import each

TICK = 0.01
NEAR_SECONDS = 0.5
SCAN_SECONDS = 0.25
LOOK_SECONDS = 0.05

clock = time.monotonic


class Sweep:
    """Ends requests at their deadlines; runs only while requests wait."""

    def __init__(
        self,
        waiting: Mapping[bytes, Try],
        postponed: Mapping[OutgoingRequest, None],
        late: Callable[[OutgoingRequest], None],
        look: Callable[[float, float], None],
    ) -> None:
        """`late` is called with a request whose deadline has passed, `look` every 50 ms while a request waits.

        `look` gets the time, and for how many seconds this process's event loop stood still since the last call: answers that came
        then were not read.
        """
        self._waiting = waiting
        self._postponed = postponed
        self._late = late
        self._look = look
        self._near: dict[int, list[OutgoingRequest]] = {}
        self._tick = 0
        self._scanned = self._looked = self._turned = self._stood_still = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def add(self, request: OutgoingRequest) -> None:
        """Watch the deadline of a request until it is answered."""
        now = clock()
        if self._timer is None:
            self._tick = int(now / TICK)
            self._scanned = self._looked = self._turned = now
            self._stood_still = 0.0
            self._timer = self._loop.call_later(TICK, self._turn)
        if request.deadline - now < NEAR_SECONDS:
            self._put(request)

    def _put(self, request: OutgoingRequest) -> None:
        request.near = True
        at = max(int(request.deadline / TICK) + 1, self._tick + 1)
        self._near.setdefault(at, []).append(request)

    def _turn(self) -> None:
        if not self._waiting and not self._near and not self._postponed:
            self._timer = None
            return
        self._timer = self._loop.call_later(TICK, self._turn)  # first, since the rest may raise
        now = clock()
        late = now - self._turned - TICK
        self._turned = now
        if late > TICK:
            self._stood_still += late
        if now - self._scanned >= SCAN_SECONDS:
            self._scanned = now
            for request in [*(tried.request for tried in self._waiting.values()), *self._postponed]:
                if not request.near and request.deadline - now < NEAR_SECONDS:
                    self._put(request)
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            stood_still, self._stood_still = self._stood_still, 0.0
            self._look(now, stood_still)
        until = int(now / TICK)
        while self._tick < until:
            self._tick += 1
            due = self._near.pop(self._tick, ())
            each([request for request in due if not request.future.done()], self._late)
