"""The requests of one function that wait for a slot: which may wait, and which have waited for too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from runner.bindings import Binding
from runner.core.admission import WaitingRoom
from runner.core.service import NotStarted
from runner.runtime.runtime import Runtime
from runner.runtime.slotline import SlotLine
from runner.services.counts import Counts

clock = time.monotonic


class Waiting:
    """The line of waiting requests, limited by the places of the room and by bytes."""

    def __init__(
        self,
        runtime: Runtime,
        open_slot: Callable[[], None],
        binding: Binding,
        turn_away: Callable[[Any, NotStarted], None],
        counts: Counts,
    ) -> None:
        """`turn_away` answers a waiting request whose handler will not begin."""
        self.line = SlotLine[Any](runtime.tasks, open_slot, binding.concurrency)
        self.requests = self.line.deliveries
        self.room = WaitingRoom(binding.concurrency, clock())
        self.bytes = 0
        """Bytes of the bodies that wait."""
        self._most_bytes = runtime.settings.max_bytes_in_flight
        self._turn_away = turn_away
        self._counts = counts

    def admits(self, size: int, now: float) -> bool:
        """Whether a request with a body of `size` bytes may wait. If so, its bytes are counted, and it must join the line."""
        if len(self.requests) >= self.room.places:
            self.room.look(now, self._counts.handled)
            if len(self.requests) >= self.room.places:
                return False
        size += self.bytes
        if size > self._most_bytes and self.requests:
            return False
        self.bytes = size
        return True

    def sweep(self, now: float) -> None:
        """Refuse requests whose deadline has passed, though no slot is free; called about ten times a second."""
        self.room.look(now, self._counts.handled)
        waiting = self.requests
        late = [each for each in waiting if now >= each.expires]
        if late:
            kept = [each for each in waiting if now < each.expires]
            waiting.clear()
            waiting.extend(kept)
            for each in late:
                self.bytes -= len(each.body)
                self._turn_away(each, "expired")

    def give_up(self) -> None:
        """Refuse all waiting requests: other instances may take them."""
        while self.requests:
            self._turn_away(self.requests.popleft(), "draining")
        self.bytes = 0
