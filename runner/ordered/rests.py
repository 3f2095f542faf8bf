"""Messages of one shard that wait here for the time of their next attempt; their lanes wait with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from runner.consumers.hands import unix
from runner.jetstream.delivery import Delivery
from runner.jetstream.reply import stored_at
from runner.ordered.failures import Failures
from runner.runtime.runtime import Runtime

LATE_SECONDS = 1.0
"""A message may start so much later than its time: the loop may be busy."""


class Rests:
    """The waiting messages of one shard; `run` is called with each whose time has come, if it is still unsettled here."""

    def __init__(
        self,
        runtime: Runtime,
        failures: Failures,
        unsettled: Mapping[int, Delivery],
        run: Callable[[Delivery], None],
    ) -> None:
        self._loop = runtime.loop
        self._now = runtime.connection.clock.now
        self._failures = failures
        self._unsettled = unsettled
        self._run = run
        self._until: dict[int, float] = {}
        """By sequence, when the message runs again, by the monotonic clock."""

    def __len__(self) -> int:
        """How many of the waiting messages are unsettled here."""
        return sum(sequence in self._unsettled for sequence in self._until)

    def __contains__(self, delivery: Delivery) -> bool:
        """Whether a message waits for its next attempt."""
        return time.monotonic() <= self._until.get(delivery.sequence, 0.0) + LATE_SECONDS

    def due(self, delivery: Delivery) -> float | None:
        """When a message's next attempt is due, in Unix time; None if it waits for none."""
        until = self._until.get(delivery.sequence)
        return unix(until) if until is not None and delivery in self else None

    def needs(self, delivery: Delivery) -> bool:
        """Whether a message that failed at an earlier owner still has to wait; then it waits from now on."""
        failed = self._failures.of(delivery.sequence, stored_at(delivery.reply))
        rest = failed.rest(self._now()) if failed is not None else 0.0
        if rest > 0:
            self.add(delivery, rest)
        return rest > 0

    def add(self, delivery: Delivery, seconds: float) -> None:
        """Run a message after so many seconds."""
        delivery.rests = True
        self._until[delivery.sequence] = time.monotonic() + seconds
        self._loop.call_later(seconds, self._end, delivery)

    def _end(self, delivery: Delivery) -> None:
        """Run the message, unless the shard was lost meanwhile: then another delivery of it may be here."""
        delivery.rests = False
        self._until.pop(delivery.sequence, None)
        if self._unsettled.get(delivery.sequence) is delivery:
            self._run(delivery)
