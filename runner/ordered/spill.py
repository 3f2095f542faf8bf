"""Messages that wait in a shard beyond a budget of bytes: their bodies are dropped, and fetched again when their turn comes.

Rule 1: only the bodies of waiting messages are dropped: of those behind another message of their key, or behind the barrier. The
        message whose turn is farthest away is dropped first.
Rule 2: a message is fetched from the stream's leader, and checked to be the same. If the stream has removed it meanwhile, it is
        acknowledged.
Rule 3: eight messages whose turn has come are fetched at once, and no more while eight that were fetched wait for a slot; their lanes
        wait meanwhile.
Rule 4: with the first message of a batch, those that run together with it are fetched, up to a quarter of the budget, and for two
        batches at a time. Else a batch would end at the first dropped body, and most batches of a long backlog would have one message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from runner.core.ordering import Ordering
from runner.errors import JetrunnerError
from runner.jetstream.concurrent import gather
from runner.jetstream.delivery import Delivery
from runner.jetstream.messages import StoredMessage, leader_message
from runner.jetstream.reply import stored_at
from runner.runtime.history import History
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.shards")

BUDGET_BYTES = 16 << 20
"""The most bytes of the bodies and headers that wait in one shard; once they are more, only half of that is kept."""
AT_ONCE = 8
"""The most messages that are fetched at once, for all turns and for each batch, and the most fetched ones that have not started."""
WHOLE_BATCHES = 2
"""The most batches whose messages were fetched, and that have not started."""
PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.25
COUNT_SECONDS = 1.0
"""The waiting bytes are counted no more often than this. They have to be, because started messages are not subtracted one by one."""
RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 5.0
SPILLED = bytes(bytearray(b"dropped"))
"""Stands for a body that is not here; known by its identity."""


class Spill:
    """The waiting messages of one shard; `start` is called with the sequence of each that has its body again.

    `ack` is called with a message that the stream has removed, `mistake` with one whose sequence is another message's now.
    """

    def __init__(
        self,
        runtime: Runtime,
        history: History,
        ordering: Ordering,
        unsettled: dict[int, Delivery],
        start: Callable[[tuple[int]], None],
        ack: Callable[[Delivery], None],
        mistake: Callable[[Delivery], None],
    ) -> None:
        self._connection = runtime.connection
        self._in_flight = runtime.connection.in_flight
        self._tasks = runtime.tasks
        self._history = history
        self._ordering = ordering
        self._unsettled = unsettled
        self._start = start
        self._ack = ack
        self._mistake = mistake
        self._bytes = 0
        """An upper bound of the waiting bytes."""
        self._counted = 0.0
        """When the waiting bytes were last counted, for batches."""
        self._wanted: deque[Delivery] = deque()
        self._fetched: list[Delivery] = []
        self._led: list[Delivery] = []
        """The first messages of the batches that others were fetched for."""
        self._fetching = 0

    def add(self, delivery: Delivery) -> None:
        """A message has to wait. For most messages this costs one addition."""
        self._bytes += len(delivery.body) + (len(delivery.header) if delivery.header else 0)
        # As `_most`, whose call and `min` would cost 0.4 µs a message (measured).
        if self._bytes > self._in_flight.waits or self._bytes > BUDGET_BYTES:
            self._drop()

    @property
    def _most(self) -> int:
        """The most bytes that may wait here: the shards of a process share them."""
        return min(self._in_flight.waits, BUDGET_BYTES)

    def joined(self, deliveries: Iterable[Delivery]) -> None:
        """These messages no longer wait: they run in a batch, with the one before them."""
        self._bytes = max(0, self._bytes - bytes_of(deliveries))

    def parted(self, deliveries: Iterable[Delivery]) -> None:
        """These messages are not done, and wait again."""
        self._bytes += bytes_of(deliveries)

    @property
    def heavy(self) -> bool:
        """Whether so many bytes wait that some would soon be dropped."""
        most = self._most // 2
        if self._bytes > most and (now := time.monotonic()) - self._counted >= COUNT_SECONDS:
            self._counted = now
            waiting = (self._unsettled.get(each) for lane in self._ordering.waiting_lanes() for each in lane)
            self._bytes = bytes_of(each for each in waiting if each is not None and each.body is not SPILLED)
        return self._bytes > most

    def _drop(self) -> None:
        unsettled, kept = self._unsettled, 0
        here: list[tuple[int, int, int]] = []
        for waiting in self._ordering.waiting_lanes():
            for place, sequence in enumerate(waiting):
                delivery = unsettled.get(sequence)
                if delivery is not None and delivery.body is not SPILLED:
                    size = len(delivery.body) + len(delivery.header or b"")
                    here.append((place, sequence, size))
                    kept += size
        most = self._most
        if kept > most * 3 // 4:  # else much of what was counted has started
            here.sort()
            while kept > most // 2:
                _, sequence, size = here.pop()
                kept -= size
                delivery = unsettled[sequence]
                delivery.header, delivery.body = None, SPILLED
        self._bytes = kept

    def restore(self, delivery: Delivery) -> None:
        """The turn of a dropped message has come: fetch and start it."""
        self._wanted.append(delivery)
        if self._fetching < AT_ONCE:
            self._fetching += 1
            self._tasks.start_soon(self._fetch)

    def restore_behind(
        self, lead: Delivery, dropped: Callable[[], list[Delivery]], then: Callable[[], None]
    ) -> None:
        """Fetch the dropped messages of the batch that begins with `lead`; then call `then`, even if some could not be fetched.

        `dropped` lists these messages; it is called once the fetching begins. The caller has seen that `lead` may start now.
        """
        self._tasks.start_soon(self._fetch_behind, lead, dropped, then)

    async def _fetch_behind(
        self, lead: Delivery, dropped: Callable[[], list[Delivery]], then: Callable[[], None]
    ) -> None:
        try:
            await self._wait_below(WHOLE_BATCHES, self._led)
            self._led.append(lead)
            behind, size, most = dropped(), 0, self._most // 4
            begin, count = 0, 1
            while begin < len(behind) and size < most:
                part = [each for each in behind[begin : begin + count] if self._waits(each)]
                found = await gather(*map(self._found, part))
                here = [each for each, one in zip(part, found, strict=True) if self._put(each, one)]
                more = bytes_of(here)
                self._bytes += more
                if len(here) < count:
                    break
                size, begin = size + more, begin + count
                count = max(1, min(AT_ONCE, (most - size) * begin // max(1, size)))
        except JetrunnerError as error:
            log.debug("messages of a batch cannot be fetched yet: %s", error)
        finally:
            then()

    async def _fetch(self) -> None:
        try:
            while self._wanted:
                await self._fetch_one(self._wanted.popleft())
                await self._wait_below(AT_ONCE, self._fetched)
        finally:
            self._fetching -= 1

    async def _wait_below(self, most: int, fetched: list[Delivery]) -> None:
        """Wait until fewer than `most` of these messages have not started."""
        wait = PAUSE_SECONDS
        while self._ahead(fetched) >= most:
            await asyncio.sleep(wait)
            wait = min(LONGEST_PAUSE_SECONDS, wait * 2)

    def _ahead(self, fetched: list[Delivery]) -> int:
        """How many of these messages have not started; the others are taken out of the list."""
        ahead = (each for each in fetched if not each.started and not each.rests)
        fetched[:] = [each for each in ahead if self._waits(each)]
        return len(fetched)

    async def _fetch_one(self, delivery: Delivery) -> None:
        """Fetch a message and start it, however long that takes."""
        history, sequence, wait = self._history, delivery.sequence, RETRY_SECONDS
        while self._waits(delivery):  # a shard that is lost forgets the message
            try:
                found = await self._found(delivery)
            except JetrunnerError as error:
                log.warning("message %d of %s cannot be fetched yet: %s", sequence, history.stream, error)
            else:
                if not self._waits(delivery):
                    return
                if found is None:
                    log.warning("message %d of %s was removed before its turn came", sequence, history.stream)
                    self._ack(delivery)
                    return
                if self._put(delivery, found):
                    self._fetched.append(delivery)
                    self._start((sequence,))
                    return
                self._mistake(delivery)
            await asyncio.sleep(wait)
            wait = min(LONGEST_RETRY_SECONDS, wait * 2)

    async def _found(self, delivery: Delivery) -> StoredMessage | None:
        """The message as it stands in the stream. If the stream has gone back, the shard forgets the message."""
        history = self._history
        ask = partial(leader_message, self._connection, history.stream, {"seq": delivery.sequence})
        return await history.surely(ask)

    def _put(self, delivery: Delivery, found: StoredMessage | None) -> bool:
        """Give a dropped message its body; False if another one stands there, or none."""
        if found is None or found.stored_ns != stored_at(delivery.reply):
            return False
        delivery.header, delivery.body = found.header, found.body
        return True

    def _waits(self, delivery: Delivery) -> bool:
        return self._unsettled.get(delivery.sequence) is delivery


def bytes_of(deliveries: Iterable[Delivery]) -> int:
    """The bytes of their bodies and headers."""
    return sum([len(each.body) + (len(each.header) if each.header else 0) for each in deliveries])
