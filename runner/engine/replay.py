"""One message on its way back: what it is, and who settles it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from runner.core import header, origin
from runner.core.failed import Failed
from runner.core.origin import Origin
from runner.core.park import Letter
from runner.engine.failures import renew
from runner.engine.incoming import Incoming
from runner.engine.lanes import Lanes
from runner.engine.queue import Queue
from runner.jetstream.delivery import Delivery
from runner.jetstream.ownstreams import DEADLETTERS, PARKED

FIRST_PARKED = -(1 << 61)
FIRST_LETTER = FIRST_PARKED - (1 << 60)
"""Sequences of their streams are counted from here: these numbers name a message on its way back, in any process."""


def known_as(sequence: int, *, letter: bool) -> int:
    """What a record of failures names one on its way back by."""
    return -(sequence + (FIRST_LETTER if letter else FIRST_PARKED))


class Replayed(Struct, frozen=True):
    """One message that comes back."""

    place: Origin
    headers: Sequence[tuple[str, str]]
    body: bytes
    sequence: int
    """Its own, among the dead letters or in `PARKED`."""
    since: float
    """Unix time from which on its age counts."""
    letter: Letter | None = None
    """None for a parked one."""

    @property
    def number(self) -> int:
        """What its delivery is known by."""
        return -self.message

    @property
    def message(self) -> int:
        """What a record of its failures names it by."""
        return known_as(self.sequence, letter=self.letter is not None)

    def delivery(self, subject: str, function: str, failed: Failed | None, source: Replaying) -> Delivery:
        """As if it had just come from its stream."""
        stream = PARKED if self.letter is None else DEADLETTERS
        reply = f"$JS.ACK.{stream}.{function}.1.{self.sequence}.0.{int(self.since * 1e9)}.0"
        block = header.encode(origin.build(self.place, self.headers))
        attempt = 1 + (failed.count if failed is not None else 0)
        return Delivery(
            subject.encode("utf-8", "surrogateescape"),
            reply.encode(),
            block,
            self.body,
            self.number,
            attempt,
            source,
            careful=True,
            deliveries=2,  # nobody counts them: its start is recorded each time
        )


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
        """Whether it was given up."""
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[bytes | None] = self._loop.create_future()
        """What it was answered with; None when it was given back."""
        self._lanes = lanes
        self._fail = fail
        """Puts a failure on record: seconds until the next attempt, None when it is not ours to run any more."""
        self._queue = queue

    def start(self, delivery: Delivery, rest: float) -> None:
        """Run it after so many seconds."""
        self.unsettled[delivery.sequence] = delivery
        self._start_in(delivery, rest)

    def ack(self, delivery: Delivery) -> None:
        """It has succeeded."""
        self.settle(delivery, b"+ACK")

    def settle(self, delivery: Delivery, verb: bytes) -> None:
        """It has ended."""
        self._end(delivery, verb)

    def give_back(self, delivery: Delivery) -> None:
        """It has not, and will not here."""
        self._end(delivery, None)

    async def park(self, incoming: Incoming) -> None:
        """It was given up: the key may be parked again, once what it comes from is settled."""
        self.parks = True

    async def again(self, delivery: Delivery, delay: float) -> None:
        """Count the failure, and run it again after `delay` seconds."""
        rest = await self._fail(delivery, delay)
        if rest is None:
            self._end(delivery, None)
        elif not delivery.settled:
            renew(delivery)
            self._start_in(delivery, rest)

    def later(self, delivery: Delivery, delay: float) -> None:
        """Run it after `delay` seconds; nothing failed."""
        renew(delivery)
        self._start_in(delivery, delay)

    def _start_in(self, delivery: Delivery, seconds: float) -> None:
        if delivery.settled:
            return
        if not self._lanes.owned:  # it is being handed over: the next owner has it run
            self._end(delivery, None)
        elif seconds > 0:
            self._loop.call_later(seconds, self._start_in, delivery, 0.0)
        else:
            self._queue.arrive(delivery)

    def _end(self, delivery: Delivery, verb: bytes | None) -> None:
        if not delivery.settled:
            del self.unsettled[delivery.sequence]
            self.ended.set_result(verb)
