"""What the end of a handler means, and whether one may start: the pipeline's questions about its surroundings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from runner.bindings import Binding
from runner.core.settlement import Failed, Outcome, TimedOut
from runner.jetstream.delivery import Delivery
from runner.runtime.runtime import Runtime
from runner.runtime.slots import clear_cancellation

log = logging.getLogger("jetrunner.pipeline")


class Guard(Protocol):
    """Whether ordered work may start in this process right now."""

    until: float
    """Until when it may, by the monotonic clock, as far as is known now."""

    @property
    def told(self) -> list[Callable[[], None]]:
        """Called when `until` is another."""

    @property
    def leaving(self) -> bool:
        """Whether the process gives up what it owns."""

    def may_start(self, now: float) -> bool:
        """Whether it may, by the monotonic clock read a moment ago."""

    def works(self, now: float) -> None:
        """There is ordered work: the server is pinged while there is, which moves `until`."""

    def lease_valid(self, now: float) -> bool:
        """Whether the process may ask for messages: it is not known to have lost what it owns."""

    def why(self, now: float) -> str:
        """Why nothing may start, in words; empty where something may."""

    async def wait(self) -> None:
        """Wait until it may."""


class Outcomes:
    """Says how the handlers of one function ended."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._runtime = runtime
        self._function = binding.function
        self._timeout = binding.timeout

    @property
    def ending(self) -> bool:
        """Whether a cancellation is meant for the slots: the process ends."""
        return self._runtime.cancelling or bool(self._runtime.tasks.cancel_scope.cancel_called)

    async def outcome_of(self, delivery: Delivery, error: BaseException | None) -> Outcome:
        """What a handler's end means, when it raised or came too late."""
        task, delivery.task = delivery.task, None
        assert task is not None
        if isinstance(error, asyncio.CancelledError) and self.ending:
            raise error
        if task.cancelling():  # ours at the deadline, or the handler's own: the slot goes on
            await clear_cancellation(task)
        if delivery.abandoned:
            delivery.source.limit += 1
            log.warning("%s: the handler that ignored its timeout has ended", self._function)
        if delivery.overdue:
            return TimedOut(self._timeout)
        assert error is not None
        return Failed(error)
