"""Batches: messages that one call of a handler works on together; each is settled for itself.

Rule 1: one slot at a time collects, until `batch` messages are there or `linger` seconds after the first.
Rule 2: only messages that come for the first time are called together. One that comes again runs alone, so that a message that
        kills its process, or fails repeatedly, harms no other. It does not wait for others: the batch that is being collected goes
        on in the next slot.
Rule 3: a batch that fails, or takes too long, is halved and called again, until what fails is alone. `Retry` applies to all
        messages of the batch, `PartialFailure` to those that it names: such messages are not called again in this attempt.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from runner.bindings import Binding
from runner.core.settlement import Failed, Undecodable
from runner.core.signals import PartialFailure, Retry
from runner.jetstream.delivery import Delivery
from runner.pipeline.batchcall import BatchCall, CalledBatch, is_changed
from runner.pipeline.queue import Queue
from runner.pipeline.settle import REPEAT_SECONDS
from runner.pipeline.together import Together
from runner.runtime.runtime import Runtime
from runner.staged import Staged

log = logging.getLogger("jetrunner.pipeline")

LOOK_SECONDS = 0.1
"""How often an open window checks whether the process drains."""

clock = time.monotonic


class Batching:
    """The batches of one function without order."""

    def __init__(
        self, runtime: Runtime, binding: Binding, call: BatchCall, ways: Together, queue: Queue
    ) -> None:
        self._function = binding.function
        self._most, self._linger = binding.batch, binding.linger
        self._call = call
        self._ways = ways
        self._queue = queue
        self._collecting = asyncio.Lock()
        self._until = 0.0
        """When the window closes that a slot has left open to run a message that comes again; 0 if there is none."""
        self._slots, self._quarantine = runtime.slots, runtime.quarantine

    async def work(self, task: asyncio.Task[Any]) -> None:
        """The work of a slot; returns when the process ends, or when a handler has left a context variable behind."""
        while not self._slots.ending:
            deliveries: list[Delivery] = []
            try:
                await self.collect(deliveries)
                await self.run(deliveries, task)
            except BaseException as error:  # the messages come again, also where the slot's task is cancelled
                self._put_off(deliveries)
                if not isinstance(error, Exception):
                    raise
                log.exception("%s: a batch could not be settled", self._function)
            if is_changed(self._slots.context):
                return

    def _put_off(self, deliveries: Sequence[Delivery]) -> None:
        """Have unsettled messages come again; at the end of the process they go back at once by another way."""
        if not self._slots.ending:
            for delivery in deliveries:
                if not delivery.settled:
                    delivery.source.later(delivery, REPEAT_SECONDS)

    async def collect(self, found: list[Delivery]) -> None:
        """Fill `found` with the next batch; it stays empty if the slot has to check first whether the process ends."""
        queue = self._queue
        async with self._collecting:
            if not queue.deliveries:
                self._until = 0.0
                await queue.line.wait()
            until, self._until = self._until or clock() + self._linger, 0.0
            while True:
                while queue.deliveries and len(found) < self._most:
                    delivery = queue.deliveries.popleft()
                    if delivery.careful:  # it runs alone, and at once
                        if found:
                            self._until = until
                            queue.line.rejoin(found)
                        found[:] = [delivery]
                        return
                    found.append(delivery)
                left = until - clock()
                if len(found) >= self._most or left <= 0 or queue.giving_back or not found:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_SECONDS)):
                        await queue.line.wait()

    async def run(self, deliveries: list[Delivery], task: asyncio.Task[Any]) -> None:
        """Call the handler with these messages, and settle each."""
        together = self._ways.plain(deliveries)
        if len(together) < len(deliveries):
            chosen = {id(each) for each in together}
            for delivery in deliveries:
                if id(delivery) not in chosen:
                    await self._ways.handle(delivery, task)
        self._ways.begin(together)
        await self._run(together, task)

    async def _bound(self, deliveries: Sequence[Delivery]) -> CalledBatch:
        """The messages that can be decoded; the others are settled."""
        batch, wrong = self._call.bind(deliveries)
        for at, error in wrong.items():
            await self._ways.failed(deliveries[at], Undecodable(error))
        return batch

    async def _run(self, deliveries: Sequence[Delivery], task: asyncio.Task[Any]) -> None:
        batch = await self._bound(deliveries)
        if not batch.deliveries:
            return
        await self._quarantine.wait_open()
        outcome, made = await self._call(batch, task)
        deliveries = batch.deliveries
        if outcome is None:
            await self._settle(deliveries, made, batch.seal())
            return
        error = outcome.error if isinstance(outcome, Failed) else None
        if isinstance(error, PartialFailure):
            for at, failure in error.failures.items():
                await self._ways.failed(deliveries[at], Failed(failure))
            fine = [at for at in range(len(deliveries)) if at not in error.failures]
            staged = batch.seal()
            await self._settle(
                [deliveries[at] for at in fine],
                [None] * len(fine),
                staged and [staged[at] for at in fine],
            )
        elif len(deliveries) == 1 or isinstance(error, Retry):
            for delivery in deliveries:
                await self._ways.failed(delivery, outcome)
        else:  # decoded anew: a handler may have changed its arguments, and its published messages are dropped
            half = len(deliveries) // 2
            for part in (deliveries[:half], deliveries[half:]):
                await self._run([each for each in part if not each.settled], task)

    async def _settle(
        self,
        deliveries: Sequence[Delivery],
        made: Sequence[Any],
        staged: Sequence[list[Staged] | None] | None,
    ) -> None:
        for left in self._ways.succeeded(deliveries, made, staged):
            await left
