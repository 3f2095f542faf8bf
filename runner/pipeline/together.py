"""How the messages of a batch begin and end: each as if it had come alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from msgspec import Struct

from runner.bindings import Binding
from runner.core.settlement import Outcome
from runner.jetstream.delivery import Delivery
from runner.jetstream.inbox import Waiter
from runner.pipeline.message import read
from runner.pipeline.outputs import Outputs
from runner.pipeline.reporter import Reporter
from runner.pipeline.settle import Settling
from runner.pipeline.stats import Stats
from runner.runtime.runtime import Runtime
from runner.staged import Staged


class Single(Struct, frozen=True):
    """The ways of a single message."""

    handle: Callable[[Delivery, Any, bool], Awaitable[None]]
    """The whole way, in a slot's task; whether the gate has admitted it to a trace."""
    send: Callable[[Delivery, list[Staged]], Coroutine[Any, Any, None]]
    """Store what was made, and settle."""
    safely: Callable[[Delivery, Coroutine[Any, Any, None]], Awaitable[None]]
    """Run what settles a message: when it raises, that message alone comes again."""
    stored: Waiter
    """The answer to an output that was sent without waiting."""


class Together:
    """Of one function."""

    def __init__(
        self,
        runtime: Runtime,
        binding: Binding,
        settling: Settling,
        outputs: Outputs,
        attempts: Reporter,
        stats: Stats,
        single: Single,
    ) -> None:
        self._tracing = runtime.tracing
        self._traced = runtime.tracing.enabled
        self._publishes = binding.output is not None
        self._ages = binding.max_age is not None
        self._settling = settling
        self._outputs = outputs
        self._attempts = attempts
        self._stats = stats
        self._single = single

    def begin(self, delivery: Delivery) -> bool:
        """Begin its attempt; False where it takes the way of a single message."""
        if delivery.careful or not delivery.body or (self._ages and self._settling.aged(delivery)):
            return False
        if self._traced and self._tracing.gate.admit(delivery.header):
            delivery.span = self._attempts.begin(delivery)
        return True

    async def handle(self, delivery: Delivery, task: asyncio.Task[Any]) -> None:
        """The way of a single message."""
        admitted = self._tracing.enabled and self._tracing.gate.admit(delivery.header)
        await self._single.handle(delivery, task, admitted)

    def succeeded(
        self, delivery: Delivery, result: Any, staged: list[Staged] | None, seconds: float
    ) -> Awaitable[None] | None:
        """Settle the message once what its handler has made is stored. What has to be awaited for that is returned; None for most messages."""
        self._stats.durations.append(seconds)
        if not staged and (result is None or not self._publishes):
            if delivery.span is not None and not delivery.settled:
                delivery.span.end_ack()
            delivery.source.ack(delivery)
            self._stats.acked += 1
            return None
        delivery.result = result
        if not staged and self._outputs.send(delivery, result, self._single.stored):
            return None
        return self._single.safely(delivery, self._single.send(delivery, staged or []))

    async def failed(self, delivery: Delivery, outcome: Outcome) -> None:
        """Settle one that did not succeed."""
        if delivery.started:
            self._stats.durations.append(time.monotonic() - delivery.started)
        await self._single.safely(delivery, self._settling.finish(read(delivery), outcome))
