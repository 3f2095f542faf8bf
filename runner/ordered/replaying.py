"""The source of a message on its way back, which settles it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from runner.jetstream.delivery import Delivery
from runner.ordered.failures import renew
from runner.ordered.lanes import Lanes
from runner.pipeline.message import Incoming
from runner.pipeline.queue import Queue


class Replaying:
    """The source of one message on its way back."""

    abandons = False
    """A handler that ignores its timeout holds its key's lane until it ends."""

    def __init__(
        self,
        lanes: Lanes,
        unsettled: dict[int, Delivery],
        queue: Queue,
        fail: Callable[[Delivery, float], Awaitable[float | None]],
    ) -> None:
        self.unsettled = unsettled
        self.limit = 1
        self.fences = lanes.fences
        self.number = lanes.number
        self.parks = False
        """Whether the message was given up."""
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[bytes | None] = self._loop.create_future()
        """The verb that answered the message; None if it was given back."""
        self._lanes = lanes
        self._fail = fail
        """Puts a failure on record; returns the seconds until the next attempt, or None if the message is no longer ours."""
        self._queue = queue

    def start(self, delivery: Delivery, rest: float) -> None:
        """Run a message after `rest` seconds."""
        self.unsettled[delivery.sequence] = delivery
        self._start_in(delivery, rest)

    def ack(self, delivery: Delivery) -> None:
        """The message has succeeded."""
        self.settle(delivery, b"+ACK")

    def settle(self, delivery: Delivery, verb: bytes) -> None:
        """The message has ended; `verb` says how."""
        self._end(delivery, verb)

    def give_back(self, delivery: Delivery) -> None:
        """The message has not ended, and will not end here."""
        self._end(delivery, None)

    async def park(self, incoming: Incoming) -> None:
        """The message was given up: its key may be parked again, once its dead letter or parked copy is settled."""
        self.parks = True

    async def again(self, delivery: Delivery, delay: float) -> None:
        """Count the failure, and run the message again after `delay` seconds."""
        rest = await self._fail(delivery, delay)
        if rest is None:
            self._end(delivery, None)
        elif not delivery.settled:
            renew(delivery)
            self._start_in(delivery, rest)

    def later(self, delivery: Delivery, delay: float) -> None:
        """Run the message after `delay` seconds; nothing failed."""
        renew(delivery)
        self._start_in(delivery, delay)

    def _start_in(self, delivery: Delivery, seconds: float) -> None:
        if delivery.settled:
            return
        if not self._lanes.owned:  # the shard is being handed over: the next owner runs the message
            self._end(delivery, None)
        elif seconds > 0:
            self._loop.call_later(seconds, self._start_in, delivery, 0.0)
        else:
            self._queue.arrive(delivery)

    def _end(self, delivery: Delivery, verb: bytes | None) -> None:
        if not delivery.settled:
            del self.unsettled[delivery.sequence]
            self.ended.set_result(verb)
