"""Holders of a shard's lanes other than its waiting messages: a key on its way back, and messages that ran at the release."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from runner.core.ordering import Ordering
from runner.jetstream.delivery import Delivery
from runner.ordered.uncommitted import Uncommitted

places = itertools.count(-(1 << 63))
"""Numbers for holders that are no messages: they are below all sequences, so that they go before waiting messages."""


class Turns:
    """The lanes of one shard that are held by no message of the stream."""

    def __init__(
        self, ordering: Ordering, start: Callable[[Sequence[int]], None], uncommitted: Uncommitted
    ) -> None:
        self.replayed: dict[int, Delivery] = {}
        """The messages on their way back that run in such lanes, by their numbers."""
        self._ordering = ordering
        self._start = start
        self._uncommitted = uncommitted
        self._turns: dict[int, asyncio.Event] = {}
        """By number, the event that is set once it is that place's turn, or the shard is lost."""
        self._keys: dict[int, Any] = {}

    def enter(self, key: Any) -> tuple[int, asyncio.Event]:
        """Take a place in a key's lane, before waiting messages; returns its number, and the event that is set once it is its turn.

        Not allowed behind the barrier, which counts arrivals.
        """
        number = next(places)
        self._keys[number] = key
        turn = self._turns[number] = asyncio.Event()
        self._start(self._ordering.arrive(number, key))
        self._uncommitted.request_commit()
        return number, turn

    def begin(self, number: int) -> None:
        """It is the turn of the place with this number, if there is one."""
        if (turn := self._turns.get(number)) is not None:
            turn.set()

    def leave(self, number: int) -> None:
        """Give up a place, and let the lane go on."""
        del self._turns[number]
        key = self._keys.pop(number)
        if ready := self._ordering.leave(number):
            self._start(ready)
        else:
            self.outlasted(number, key)

    def outlasted(self, number: int, key: Any) -> None:
        """The handler that held a lane when the shard was let go has ended: the lane goes on."""
        self._start(self._ordering.outlasted(number, key))

    def give_back(self) -> None:
        """Give back what has not started, even if its start is being recorded: the next owner runs it."""
        for delivery in list(self.replayed.values()):
            if not delivery.started:
                delivery.source.give_back(delivery)

    def end(self) -> None:
        """The shard is let go: give back what has not started, and end every wait for a turn."""
        self.give_back()
        for turn in self._turns.values():
            turn.set()
