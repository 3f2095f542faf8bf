"""A message that was sent back to an ordered function: settled at its own stream, in the lane of its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.jetstream.delivery import Delivery, Source

if TYPE_CHECKING:
    from runner.engine.guests import Guests


class Returned:
    """The source of a message that was sent back, while it has a lane in a shard."""

    abandons = False

    def __init__(self, shard: Guests, source: Source, lane: int) -> None:
        self.unsettled = source.unsettled
        self.limit = source.limit
        self.fences = shard.fences
        self.number = shard.number
        self._shard = shard
        self._source = source
        self._lane = lane

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge, and free the lane."""
        self._source.ack(delivery)
        self._shard.free(self._lane)

    def settle(self, delivery: Delivery, verb: bytes) -> None:
        """Answer, and free the lane."""
        self._source.settle(delivery, verb)
        self._shard.free(self._lane)

    async def again(self, delivery: Delivery, delay: float) -> None:
        """It comes again from the server, and enters its lane then; others of its key do not wait for it."""
        await self._source.again(delivery, delay)
        self._shard.free(self._lane)

    def later(self, delivery: Delivery, delay: float) -> None:
        """As `again`."""
        self._source.later(delivery, delay)
        self._shard.free(self._lane)

    def give_back(self, delivery: Delivery) -> None:
        """Any instance may have it; the one with its shard will."""
        self._source.give_back(delivery)
        self._shard.free(self._lane)
