"""Deadlines and ack waits of one function's messages, all watched by the process's one sweeper."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from weakref import WeakKeyDictionary

from runner.jetstream.delivery import Delivery
from runner.jetstream.pull import Pull
from runner.pipeline.pipeline import Pipeline
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.deadlines")

MANY = 500
MANY_SECONDS = 1.0
"""If a shard has over `MANY` messages, most of them waiting in lanes, each is checked only this often."""
HOARDED_SECONDS = 1.0
"""Messages fetched ahead go back once the newest one has waited so long for a slot."""
ATTEMPTS = 3
"""With fewer attempts nothing is given back: the server counts a returned message as delivered, and it must get two tries."""
GRACE_SECONDS = 1.0
"""Time a cancelled handler has to end before its message is settled without it."""


class Deadlines:
    """Checks every unsettled message about ten times a second."""

    def __init__(self, runtime: Runtime, pipeline: Pipeline) -> None:
        self._runtime = runtime
        self._pipeline = pipeline
        self._timeout = pipeline.binding.timeout
        self._swept: WeakKeyDictionary[Pull, float] = WeakKeyDictionary()
        self._newest: Delivery | None = None
        """The newest message that waited for a slot when it was last noted; `_newest_since` is when that was."""
        self._newest_since = 0.0
        self._may_give_back = pipeline.binding.retry.attempts >= ATTEMPTS

    def sweep(self, now: float) -> None:
        """Extend ack waits, cancel late handlers, and settle the messages of handlers that ignore the cancellation."""
        for pull in self._pipeline.pulls:
            pull.watch(now)
            looked = self._swept.get(pull)
            if (
                pull.holds
                and looked is not None
                and len(pull.unsettled) > MANY
                and now - looked < MANY_SECONDS
            ):
                continue
            self._swept[pull] = now
            late: set[asyncio.Task[Any]] = set()
            for delivery in list(pull.unsettled.values()):
                if not delivery.extended:
                    delivery.extended = (
                        looked or now
                    )  # it came after that look; the loop may have stood still
                elif now - delivery.extended >= pull.extend_every:
                    pull.extend(delivery, now)
                if (
                    delivery.task is not None
                    and now - delivery.started >= self._timeout
                    and not delivery.abandoned
                ):
                    if delivery.task in late:  # one batch: its task is cancelled already
                        delivery.overdue = True
                        continue
                    late.add(delivery.task)
                    self._late(delivery, now - delivery.started - self._timeout)

        self._give_back_hoarded(now)

    def _give_back_hoarded(self, now: float) -> None:
        """Give back what a fast function has fetched ahead and cannot start soon, since it has become slow: other instances may be free."""
        queue, newest = self._pipeline.queue, self._newest
        if newest is None or newest.started or newest.settled:
            self._newest, self._newest_since = queue.deliveries[-1] if queue.deliveries else None, now
        elif now - self._newest_since >= HOARDED_SECONDS:
            self._newest = None
            for pull in self._pipeline.pulls if self._may_give_back else ():
                if not pull.holds:
                    queue.give_back_newest(pull, len(pull.unsettled) - pull.limit)

    def _late(self, delivery: Delivery, seconds: float) -> None:
        if not delivery.overdue:
            delivery.overdue = True
            if delivery.in_cell or not self._pipeline.calling.threaded:
                assert delivery.task is not None
                delivery.task.cancel()
                return
            if not delivery.source.abandons:
                log.error(
                    "%s: a thread ignores its timeout; its key waits until it ends",
                    self._pipeline.binding.function,
                )
                return
        elif seconds < GRACE_SECONDS or not delivery.source.abandons:
            return
        delivery.abandoned = source = delivery.source
        self._runtime.quarantine.abandon([delivery])
        source.limit -= 1
        log.error(
            "%s: a handler ignores its timeout of %g s and holds its slot until it ends",
            self._pipeline.binding.function, self._timeout,
        )  # fmt: skip
        self._runtime.tasks.start_soon(self._pipeline.time_out, delivery)
