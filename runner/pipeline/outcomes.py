"""The outcome of a handler's end, and whether ordered work may start."""

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


class StartGuard(Protocol):
    """Whether ordered work may start in this process right now."""

    until: float
    """Until when ordered work may start, by the monotonic clock, as far as is known now."""

    @property
    def told(self) -> list[Callable[[], None]]:
        """Callbacks, called when `until` has changed."""

    @property
    def leaving(self) -> bool:
        """Whether the process gives up what it owns."""

    def may_start(self, now: float) -> bool:
        """Whether ordered work may start; `now` is a reading of the monotonic clock from a moment ago."""

    def works(self, now: float) -> None:
        """There is ordered work: the server is pinged meanwhile, and each answer moves `until` forward."""

    def lease_valid(self, now: float) -> bool:
        """Whether the process may ask for messages, because it is not known to have lost its shards."""

    def why(self, now: float) -> str:
        """Why no message may start, in words; empty if messages may start."""

    async def wait(self) -> None:
        """Wait until messages may start."""


class Outcomes:
    """Finds the outcomes of one function's handlers."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._runtime = runtime
        self._function = binding.function
        self._timeout = binding.timeout

    @property
    def ending(self) -> bool:
        """Whether a cancellation is meant for the slots: the process ends."""
        return self._runtime.cancelling or bool(self._runtime.tasks.cancel_scope.cancel_called)

    async def outcome_of(self, delivery: Delivery, error: BaseException | None) -> Outcome:
        """The outcome of a handler that raised, or ended too late."""
        task, delivery.task = delivery.task, None
        assert task is not None
        if isinstance(error, asyncio.CancelledError) and self.ending:
            raise error
        if task.cancelling():  # the deadline's cancellation, or the handler's own: the slot goes on
            await clear_cancellation(task)
        if (source := delivery.abandoned) is not None:  # its message may have another one by now
            source.limit += 1
            log.warning("%s: the handler that ignored its timeout has ended", self._function)
        if delivery.overdue:
            return TimedOut(self._timeout)
        assert error is not None
        return Failed(error)
