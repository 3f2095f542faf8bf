"""The bytes in flight of all pulls of one connection: how many each may have, and whose turn it is if they are short.

Rule 1: a pull without any messages gets one, however large it is and however few bytes are left. Such pulls stand in a queue, and
        one at a time may go over the budget, so that no pull stalls.
Rule 2: while a pull in the queue could have its message within the budget, other pulls get no more bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from runner.core.budget import DEFAULT, parts


class Puller(Protocol):
    """One pull, as the others see it."""

    limit: int
    coming: int
    """Bytes that were asked for, and may still come."""
    wake: Callable[[], None]
    """Called when there may be more bytes."""

    @property
    def in_flight(self) -> int:
        """Bytes of messages that are here or on their way."""


class InFlight:
    """Divides the bytes in flight. Each slot may have `part` bytes without regard to other pulls."""

    def __init__(self, total: int = DEFAULT) -> None:
        self._budget = parts(total)
        self._slots: dict[Puller, int] = {}
        """The number of slots of every open pull."""
        self._holding: set[Puller] = set()
        self._expected = 0
        self._large: set[Puller] = set()
        """Pulls with large messages."""
        self._queue: dict[Puller, int] = {}
        """The queue: pulls without messages that got no bytes, and how many bytes each needs."""
        self._over: Puller | None = None
        """The pull that may go over the budget, by one message."""
        self.part = self._budget.part(0)
        self.waits = self._budget.waiting
        """Bytes that may wait in one shard behind other messages of their key."""

    def expect(self, slots: int) -> None:
        """Expect so many slots, so that pulls that open early ask for no more than their part."""
        self._expected = slots
        self._divide()

    def open(self, pull: Puller, *, holds: bool) -> None:
        """Add a pull that asks for messages from now on; `holds`: its messages may wait behind others of their key."""
        self._slots[pull] = pull.limit
        if holds:
            self._holding.add(pull)
        self._divide()

    def close(self, pull: Puller) -> None:
        """Remove a pull that asks for no more messages."""
        self._slots.pop(pull, None)
        self._holding.discard(pull)
        self.leave(pull)
        self._divide()

    def _divide(self) -> None:
        self.part = self._budget.part(max(self._expected, sum(self._slots.values())))
        self.waits = self._budget.waiting // max(1, len(self._holding))

    def leave(self, pull: Puller) -> None:
        """Take a pull out of those with large messages: its part is enough."""
        if pull in self._large:
            self._large.discard(pull)
            self._queue.pop(pull, None)
            if self._over is pull:
                self._over = None
            self.freed()

    def stand_back(self, pull: Puller) -> None:
        """Take a pull out of the queue, because it asks for no bytes now."""
        if self._queue.pop(pull, None) is not None:
            self.freed()

    def grant(self, pull: Puller, least: int) -> int:
        """How many bytes a pull may ask for now; 0 if that would be less than `least`: it is woken when there are more."""
        self._large.add(pull)
        rest = [each for each in self._large if each is not pull and each is not self._over]
        others, coming = sum(each.in_flight for each in rest), sum(each.coming for each in rest)
        own, fair = pull.in_flight, self._budget.fair(others, coming)
        over = self._over
        if over is not None and (not over.in_flight or (over is pull and fair >= own)):
            self._over = None
        free = fair - own
        turn = self._turn
        if turn is not None and turn is not pull:
            free = 0
        free = max(free, pull.limit * self.part - own)
        if free >= least:
            if self._queue.pop(pull, None) is not None:
                self.freed()
            return free
        if not own or least > self._budget.largest:
            self._queue[pull] = least
            if self._over is None and next(iter(self._queue)) is pull:
                del self._queue[pull]
                self._over = pull
                self.freed()
                return least
        return 0

    @property
    def _turn(self) -> Puller | None:
        """The first pull in the queue that need not go over the budget."""
        largest = self._budget.largest
        return next((each for each, least in self._queue.items() if least <= largest), None)

    def freed(self) -> None:
        """Wake pulls in the queue, because there may be more bytes."""
        if self._queue:
            next(iter(self._queue)).wake()
            if (turn := self._turn) is not None:
                turn.wake()
