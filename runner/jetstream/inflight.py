"""The bytes in flight of all pulls of one connection: who has how many, and whose turn it is when they are short.

Rule 1: a pull that has nothing gets one message, however large and however little is left: those that wait for that
        stand in a queue, and one at a time goes over the budget. So nothing stalls.
Rule 2: while one stands there that could have its message within the budget, the others get nothing more.
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
    """There may be more to have."""

    @property
    def in_flight(self) -> int:
        """Bytes here and on their way."""


class InFlight:
    """`part` is what each slot may have without a look at the others."""

    def __init__(self, total: int = DEFAULT) -> None:
        self._budget = parts(total)
        self._slots: dict[Puller, int] = {}
        """Of every open pull."""
        self._holding: set[Puller] = set()
        self._expected = 0
        self._large: set[Puller] = set()
        """Pulls with large messages."""
        self._queue: dict[Puller, int] = {}
        """Pulls that have nothing and got nothing, and how many bytes they need."""
        self._over: Puller | None = None
        """The one that may go over the budget, by one message."""
        self.part = self._budget.part(0)
        self.waits = self._budget.waiting
        """Bytes that may wait in one shard behind other messages of their key."""

    def expect(self, slots: int) -> None:
        """So many slots will be open: what is asked for before that is not more than their part."""
        self._expected = slots
        self._divide()

    def open(self, pull: Puller, *, holds: bool) -> None:
        """It asks for messages from now on; whether some may wait behind others of their key."""
        self._slots[pull] = pull.limit
        if holds:
            self._holding.add(pull)
        self._divide()

    def close(self, pull: Puller) -> None:
        """It asks for nothing more."""
        self._slots.pop(pull, None)
        self._holding.discard(pull)
        self.leave(pull)
        self._divide()

    def _divide(self) -> None:
        self.part = self._budget.part(max(self._expected, sum(self._slots.values())))
        self.waits = self._budget.waiting // max(1, len(self._holding))

    def leave(self, pull: Puller) -> None:
        """Its messages are small: its part is enough."""
        if pull in self._large:
            self._large.discard(pull)
            self._queue.pop(pull, None)
            if self._over is pull:
                self._over = None
            self.freed()

    def stand_back(self, pull: Puller) -> None:
        """It asks for nothing now, and has no place in the queue until it does."""
        if self._queue.pop(pull, None) is not None:
            self.freed()

    def grant(self, pull: Puller, least: int) -> int:
        """How many bytes it may ask for now; 0 where that would be less than `least`: it is woken when there are more."""
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
        """Whose turn it is, of those that need not go over the budget."""
        largest = self._budget.largest
        return next((each for each, least in self._queue.items() if least <= largest), None)

    def freed(self) -> None:
        """There may be more to have: tell those that wait."""
        if self._queue:
            next(iter(self._queue)).wake()
            if (turn := self._turn) is not None:
                turn.wake()
