"""Begins and ends the messages of a batch, each as if it had come alone."""

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
    """The pipeline's functions for a single message."""

    handle: Callable[[Delivery, Any, bool], Awaitable[None]]
    """Runs a message in a slot's task; the last argument says whether the gate has admitted it to a trace."""
    send: Callable[[Delivery, list[Staged]], Coroutine[Any, Any, bool]]
    """Stores outputs and settles; returns whether the message has succeeded."""
    safely: Callable[[Delivery, Coroutine[Any, Any, Any]], Awaitable[Any]]
    """Awaits the coroutine that settles a message; if it raises, only this message comes again."""
    stored: Waiter
    """Called with the answer to an output that was sent without waiting."""


class Together:
    """Begins and ends the messages of one function's batches."""

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
        """The messages that may be called together; each other one goes the way of a single message."""
        plain = [each for each in deliveries if not each.careful and each.body]
        if self._ages:
            plain = [each for each in plain if not self._settling.aged(each)]
        return plain

    def begin(self, deliveries: Sequence[Delivery]) -> None:
        """Begin the attempts of these messages."""
        if not self._traced:
            return
        admit, begin = self._tracing.gate.admit, self._attempts.begin
        for delivery in deliveries:
            if delivery.span is None and admit(delivery.header):
                delivery.span = begin(delivery)

    async def handle(self, delivery: Delivery, task: asyncio.Task[Any]) -> None:
        """Run one message alone."""
        admitted = self._traced and self._tracing.gate.admit(delivery.header)
        await self._single.handle(delivery, task, admitted)

    def succeeded(
        self,
        deliveries: Sequence[Delivery],
        made: Sequence[Any],
        staged: Sequence[list[Staged] | None] | None,
    ) -> Iterator[Awaitable[None]]:
        """Settle messages once their outputs are stored. Yields what has to be awaited for that; for most messages that is nothing."""
        self.took(deliveries)
        if staged is None and not self.publishes and not self._observed:  # as most batches are
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
        """Acknowledge a message that has succeeded, and has no more outputs to store."""
        if self._observed and not delivery.settled:
            self._attempts.end(delivery.span, read(delivery), Ack(), Succeeded(), ran(delivery))
        elif delivery.span is not None and not delivery.settled:
            delivery.span.end_ack()
        delivery.source.ack(delivery)
        self._stats.acked += 1
        self._stats.ended += (delivery.reply, delivery.started, clock())

    def took(self, deliveries: Sequence[Delivery]) -> None:
        """The handler of these messages has ended now: note the time that it took."""
        if deliveries:
            self._stats.durations.extend([clock() - deliveries[0].started] * len(deliveries))

    def send(self, delivery: Delivery, result: Any, stored: Waiter) -> bool:
        """Send a single output; `stored` is called with the answer. False if `store` has to do it."""
        delivery.result = result
        return not self._observed and self._send(delivery, result, stored)

    async def store(self, delivery: Delivery, result: Any, staged: list[Staged] | None) -> bool:
        """Store a message's outputs and settle it, however long that takes; whether it has succeeded."""
        delivery.result = result
        return bool(await self._single.safely(delivery, self._single.send(delivery, staged or [])))

    async def failed(self, delivery: Delivery, outcome: Outcome) -> None:
        """Settle a message that did not succeed."""
        if delivery.started:
            self._stats.durations.append(clock() - delivery.started)
        await self._single.safely(delivery, self._settling.finish(read(delivery), outcome))
