"""How the messages of a batch begin and end: each as if it had come alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from msgspec import Struct

from runner.bindings import Binding
from runner.core.settlement import Ack, Outcome, Succeeded
from runner.jetstream.delivery import Delivery
from runner.jetstream.inbox import Waiter
from runner.pipeline.message import read
from runner.pipeline.outputs import Outputs
from runner.pipeline.reporter import Reporter, ran
from runner.pipeline.settle import Settling
from runner.pipeline.stats import Stats
from runner.runtime.runtime import Runtime
from runner.staged import Staged

clock = time.monotonic


class Single(Struct, frozen=True):
    """The ways of a single message."""

    handle: Callable[[Delivery, Any, bool], Awaitable[None]]
    """The whole way, in a slot's task; whether the gate has admitted it to a trace."""
    send: Callable[[Delivery, list[Staged]], Coroutine[Any, Any, bool]]
    """Store what was made, and settle; whether it has succeeded."""
    safely: Callable[[Delivery, Coroutine[Any, Any, Any]], Awaitable[Any]]
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
        self._observed = runtime.observer is not None
        self.publishes = binding.output is not None
        self._ages = binding.max_age is not None
        self._settling = settling
        self._attempts = attempts
        self._stats = stats
        self._single = single
        self.outputs = outputs
        self.confirmed = outputs.confirmed
        self._send = outputs.send

    def plain(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those that may be called together with others; the rest takes the way of a single message."""
        plain = [each for each in deliveries if not each.careful and each.body]
        if self._ages:
            plain = [each for each in plain if not self._settling.aged(each)]
        return plain

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Begin their attempts."""
        if not self._traced:
            return
        admit, begin = self._tracing.gate.admit, self._attempts.begin
        for delivery in deliveries:
            if delivery.span is None and admit(delivery.header):
                delivery.span = begin(delivery)

    async def handle(self, delivery: Delivery, task: asyncio.Task[Any]) -> None:
        """The way of a single message."""
        admitted = self._traced and self._tracing.gate.admit(delivery.header)
        await self._single.handle(delivery, task, admitted)

    def succeeded(
        self,
        deliveries: Sequence[Delivery],
        made: Sequence[Any],
        staged: Sequence[list[Staged] | None] | None,
    ) -> Iterator[Awaitable[None]]:
        """Settle messages once what their handler has made is stored. Gives what has to be awaited for that: nothing for most."""
        self.took(deliveries)
        if staged is None and not self.publishes and not self._observed:  # as most are
            now, ended = clock(), self._stats.ended
            for delivery in deliveries:
                if delivery.span is not None and not delivery.settled:
                    delivery.span.end_ack()
                delivery.source.ack(delivery)
                ended += (delivery.reply, delivery.started, now)
            self._stats.acked += len(deliveries)
            return
        for at, delivery in enumerate(deliveries):
            published = staged[at] if staged is not None else None
            result = made[at]
            if not published and (result is None or not self.publishes):
                self.ack(delivery)
                continue
            delivery.result = result
            if published or self._observed or not self._send(delivery, result, self._single.stored):
                yield self._single.safely(delivery, self._single.send(delivery, published or []))

    def ack(self, delivery: Delivery) -> None:
        """It has succeeded, and nothing is left to be stored."""
        if self._observed and not delivery.settled:
            self._attempts.end(delivery.span, read(delivery), Ack(), Succeeded(), ran(delivery))
        elif delivery.span is not None and not delivery.settled:
            delivery.span.end_ack()
        delivery.source.ack(delivery)
        self._stats.acked += 1
        self._stats.ended += (delivery.reply, delivery.started, clock())

    def took(self, deliveries: Sequence[Delivery]) -> None:
        """Their handler has ended now."""
        if deliveries:
            self._stats.durations.extend([clock() - deliveries[0].started] * len(deliveries))

    def send(self, delivery: Delivery, result: Any, stored: Waiter) -> bool:
        """Send a single output; `stored` is called with the answer. False where `store` has to."""
        delivery.result = result
        return not self._observed and self._send(delivery, result, stored)

    async def store(self, delivery: Delivery, result: Any, staged: list[Staged] | None) -> bool:
        """Store what was made of it and settle it, however long that takes; whether it has succeeded."""
        delivery.result = result
        return bool(await self._single.safely(delivery, self._single.send(delivery, staged or [])))

    async def failed(self, delivery: Delivery, outcome: Outcome) -> None:
        """Settle one that did not succeed."""
        if delivery.started:
            self._stats.durations.append(clock() - delivery.started)
        await self._single.safely(delivery, self._settling.finish(read(delivery), outcome))
