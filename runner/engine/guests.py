"""What takes its turn in a shard's lanes and is no message of the shard: one that was sent back, a key on its way back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from runner.core.ordering import Ordering
from runner.engine.fence import Fences
from runner.engine.resting import Resting
from runner.engine.returned import Returned
from runner.jetstream.delivery import Delivery

SENT_BACK = 1 << 62
"""Messages that were sent back are numbered below all others, in their own order: they go before what waits."""
places = itertools.count(-(1 << 63))
"""Numbers of lanes that are held by no message: below those, too."""


class Guests:
    """The guests of one shard's lanes."""

    ordering: Ordering
    owned: bool
    number: int
    fences: Fences
    _key_of: Callable[[bytes], Any]
    _resting: Resting

    def __init__(self) -> None:
        self.returned: dict[int, Delivery] = {}
        """Messages that were sent back, by their number in the lanes."""
        self._turns: dict[int, asyncio.Event] = {}
        """Lanes that are held by no message, by their numbers: set once it is their turn, or the shard is lost."""
        self._numbered: dict[int, Any] = {}
        """The keys of all guests in the lanes."""

    def _start(self, sequences: Sequence[int]) -> None:
        raise NotImplementedError

    def enter(self, key: Any) -> tuple[int, asyncio.Event]:
        """Take a place in a key's lane, before what waits there: its number, and what is set once it is its turn.

        Not behind the barrier, which counts what comes.
        """
        number = next(places)
        self._numbered[number] = key
        turn = self._turns[number] = asyncio.Event()
        self._start(self.ordering.arrive(number, key))
        self._resting.hurry()
        return number, turn

    def leave(self, number: int) -> None:
        """Give such a place up, and let the lane go on."""
        del self._turns[number]
        self.free(number)

    def take_back(self, delivery: Delivery, subject: bytes) -> bool:
        """Put a message that was sent back into its key's lane, before what waits there; False when that cannot be now."""
        if not self.owned or self.ordering.barrier:
            return False
        number = delivery.sequence - SENT_BACK
        returned = Returned(self, delivery.source, number)
        delivery.source = returned
        self.returned[number] = delivery
        key = self._numbered[number] = self._key_of(subject)
        self._start(self.ordering.arrive(number, key))
        return True

    def free(self, number: int) -> None:
        """A message that was sent back is settled, or comes again later: its lane goes on."""
        self.returned.pop(number, None)
        key = self._numbered.pop(number, None)
        self._start(self.ordering.settle(number) or self.ordering.outlasted(number, key))
