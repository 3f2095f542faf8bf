"""What holds a shard's lanes and is no message of the shard: a key on its way back, and what ran when the shard was let go."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from runner.core.ordering import Ordering
from runner.jetstream.delivery import Delivery
from runner.ordered.uncommitted import Uncommitted

places = itertools.count(-(1 << 63))
"""Numbers of lanes that are held by no message: below those of all messages, so they go before what waits."""


class Turns:
    """The lanes of one shard that are held by no message."""

    def __init__(
        self, ordering: Ordering, start: Callable[[Sequence[int]], None], uncommitted: Uncommitted
    ) -> None:
        self.replayed: dict[int, Delivery] = {}
        """What runs in such lanes, by the numbers of the deliveries."""
        self._ordering = ordering
        self._start = start
        self._uncommitted = uncommitted
        self._turns: dict[int, asyncio.Event] = {}
        """By their numbers; set once it is their turn, or the shard is lost."""
        self._keys: dict[int, Any] = {}

    def enter(self, key: Any) -> tuple[int, asyncio.Event]:
        """Take a place in a key's lane, before what waits there: its number, and what is set once it is its turn.

        Not behind the barrier, which counts what comes.
        """
        number = next(places)
        self._keys[number] = key
        turn = self._turns[number] = asyncio.Event()
        self._start(self._ordering.arrive(number, key))
        self._uncommitted.request_commit()
        return number, turn

    def begin(self, number: int) -> None:
        """It is the turn of a place, if that number is one."""
        if (turn := self._turns.get(number)) is not None:
            turn.set()

    def leave(self, number: int) -> None:
        """Give such a place up, and let the lane go on."""
        del self._turns[number]
        key = self._keys.pop(number)
        if ready := self._ordering.leave(number):
            self._start(ready)
        else:
            self.outlasted(number, key)

    def outlasted(self, number: int, key: Any) -> None:
        """What held a lane when the shard was let go has ended: the lane goes on."""
        self._start(self._ordering.outlasted(number, key))

    def give_back(self) -> None:
        """Nothing starts any more: what has not is for the next owner, though its start is being recorded."""
        for delivery in list(self.replayed.values()):
            if not delivery.started:
                delivery.source.give_back(delivery)

    def end(self) -> None:
        """The shard is let go: nothing waits for a turn any more."""
        self.give_back()
        for turn in self._turns.values():
            turn.set()
