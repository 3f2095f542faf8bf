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
"""So much later than its time one may start: the loop may be busy."""


class Rests:
    """`run` is called with one whose time has come, and that is still unsettled here."""

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
        """By the monotonic clock."""

    def __len__(self) -> int:
        """How many of them are unsettled here."""
        return sum(sequence in self._unsettled for sequence in self._until)

    def __contains__(self, delivery: Delivery) -> bool:
        """Whether a message waits for its next attempt."""
        return time.monotonic() <= self._until.get(delivery.sequence, 0.0) + LATE_SECONDS

    def due(self, delivery: Delivery) -> float | None:
        """When a message's next attempt is due, in Unix time; None for one that waits for none."""
        until = self._until.get(delivery.sequence)
        return unix(until) if until is not None and delivery in self else None

    def needs(self, delivery: Delivery) -> bool:
        """Whether a message has failed at an earlier owner, and waits from now on."""
        failed = self._failures.of(delivery.sequence, stored_at(delivery.reply))
        rest = failed.rest(self._now()) if failed is not None else 0.0
        if rest > 0:
            self.add(delivery, rest)
        return rest > 0

    def add(self, delivery: Delivery, seconds: float) -> None:
        """It runs after so many seconds."""
        self._until[delivery.sequence] = time.monotonic() + seconds
        self._loop.call_later(seconds, self._end, delivery)

    def _end(self, delivery: Delivery) -> None:
        """Unless the shard was lost meanwhile; then another delivery of the message may be here."""
        self._until.pop(delivery.sequence, None)
        if self._unsettled.get(delivery.sequence) is delivery:
            self._run(delivery)
