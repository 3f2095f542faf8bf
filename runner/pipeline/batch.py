"""Batches: messages that one call of a handler works on together; each is settled for itself.

Rule 1: one slot at a time collects, until `batch` messages are there or `linger` seconds after the first.
Rule 2: only messages that come for the first time are called together: one that comes again runs alone, so what kills
        its process, or fails again and again, takes no other with it.
Rule 3: a batch that fails, or takes too long, is halved and called again, until what fails is alone. `Retry` speaks of
        all of its messages, and `PartialFailure` of those that it names: these are not called again here.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from msgspec import Struct

from runner import batches, codec
from runner.bindings import Binding
from runner.context import Context
from runner.core.settlement import Failed, Outcome, Undecodable
from runner.core.signals import PartialFailure, Retry
from runner.jetstream.delivery import Delivery
from runner.pipeline.call import Calling
from runner.pipeline.judging import Judging
from runner.pipeline.message import is_msgpack
from runner.pipeline.queue import Queue
from runner.pipeline.settle import REPEAT_SECONDS
from runner.pipeline.together import Together
from runner.runtime.runtime import Runtime
from runner.runtime.slots import calm

log = logging.getLogger("jetrunner.pipeline")

LOOK_SECONDS = 0.1
"""A window that is open looks so often whether the process drains."""

clock = time.monotonic


class Item(Struct, eq=False):
    """A message of a batch, ready to be called with."""

    delivery: Delivery
    arguments: Sequence[Any]
    context: Context[Any] | None


def is_changed(variables: contextvars.Context) -> bool:
    """Whether a handler has left a context variable behind."""
    try:
        return contextvars.copy_context() != variables
    except Exception:  # noqa: BLE001  # of a value that cannot be compared
        return True


class Batching:
    """The batches of one function."""

    def __init__(
        self,
        runtime: Runtime,
        binding: Binding,
        calling: Calling,
        judging: Judging,
        ways: Together,
        queue: Queue,
    ) -> None:
        self._function = binding.function
        self._most, self._linger = binding.batch, binding.linger
        self._calling = calling
        self._judging = judging
        self._ways = ways
        self._queue = queue
        self._collecting = asyncio.Lock()
        self._slots, self._quarantine = runtime.slots, runtime.isolation

    async def work(self, task: asyncio.Task[Any]) -> None:
        """What a slot does: returns when the process ends, or when a handler has left a variable behind."""
        while not self._slots.ending:
            deliveries = await self.collect()
            try:
                await self.run(deliveries, task)
            except Exception:  # the slot must live on, and the messages come again
                log.exception("%s: a batch could not be settled", self._function)
                for delivery in deliveries:
                    if not delivery.settled:
                        delivery.source.later(delivery, REPEAT_SECONDS)
            if is_changed(self._slots.context):
                return

    async def collect(self) -> list[Delivery]:
        """The next batch; empty where the slot has to look around first."""
        queue = self._queue
        async with self._collecting:
            if not queue.deliveries:
                await queue.wait()
            until = clock() + self._linger
            found: list[Delivery] = []
            while True:
                while queue.deliveries and len(found) < self._most:
                    found.append(queue.deliveries.popleft())
                left = until - clock()
                if len(found) >= self._most or left <= 0 or queue.giving_back or not found:
                    return found
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_SECONDS)):
                        await queue.wait()

    async def run(self, deliveries: list[Delivery], task: asyncio.Task[Any]) -> None:
        """Call the handler with them, and settle each."""
        together = []
        for delivery in deliveries:
            if self._ways.begin(delivery):
                together.append(delivery)
            else:
                await self._ways.handle(delivery, task)
        if items := await self._bound(together):
            await self._run(items, task)

    async def _bound(self, deliveries: list[Delivery]) -> list[Item]:
        """Each with its arguments; one that cannot be decoded is settled."""
        bind, taker = self._calling.bind, self._calling.taker
        bodies = self._decoded(deliveries)
        items = []
        for at, delivery in enumerate(deliveries):
            context = self._calling.context(delivery) if taker is not None else None
            if bodies is not None:
                arguments = [bodies[at]]
                if taker is not None:
                    arguments.insert(taker, context)
                items.append(Item(delivery, arguments, context))
                continue
            try:
                bound = bind(delivery.subject, delivery.body, is_msgpack(delivery.header), context)
            except Exception as error:  # noqa: BLE001  # a type's own validation may raise anything
                await self._ways.failed(delivery, Undecodable(codec.explain(error)))
            else:
                items.append(Item(delivery, bound, context))
        return items

    def _decoded(self, deliveries: list[Delivery]) -> list[Any] | None:
        """All bodies decoded in one go; None where that is not possible, or one of them cannot be decoded."""
        lines = self._calling.lines
        if lines is None or any(is_msgpack(delivery.header) for delivery in deliveries):
            return None
        joined = b"\n".join([delivery.body for delivery in deliveries])
        if joined.count(b"\n") != len(deliveries) - 1:  # a body of several lines would be several values
            return None
        try:
            found = lines(joined)
        except Exception:  # noqa: BLE001  # which body is wrong is found when each is decoded for itself
            return None
        return found if len(found) == len(deliveries) else None

    async def _run(self, items: list[Item], task: asyncio.Task[Any]) -> None:
        outcome = await self._call(items, task)
        if outcome is None:
            return
        error = outcome.error if isinstance(outcome, Failed) else None
        if isinstance(error, PartialFailure) and max(error.failures) < len(items):
            for index, item in enumerate(items):
                if (failure := error.failures.get(index)) is not None:
                    await self._ways.failed(item.delivery, Failed(failure))
                else:
                    await self._settle([item], [None])
        elif len(items) == 1 or isinstance(error, Retry):
            for item in items:
                await self._ways.failed(item.delivery, outcome)
        else:
            for half in (items[: len(items) // 2], items[len(items) // 2 :]):
                await self._run(await self._rebound(half), task)

    async def _rebound(self, items: list[Item]) -> list[Item]:
        """The same as new: a handler may have changed what it was given, and what it has published is gone."""
        return await self._bound([item.delivery for item in items if not item.delivery.settled])

    async def _call(self, items: list[Item], task: asyncio.Task[Any]) -> Outcome | None:
        """Call the handler, and settle what has succeeded; None then, else how the call has ended."""
        if not items:
            return None
        await self._quarantine.wait_open()
        head, now = items[0].delivery, clock()
        for item in items:
            item.delivery.started = now
        head.task, head.overdue = task, False  # the sweeper looks at the deadline of one of them
        contexts = tuple(item.context for item in items if item.context is not None)
        try:
            columns: list[Any] = [
                list(column) for column in zip(*(item.arguments for item in items), strict=True)
            ]
            if self._calling.taker is not None:
                columns[self._calling.taker] = batches.context_of(contexts)
            made = batches.results(await self._calling(columns, batch=True), len(items))
        except BaseException as error:  # noqa: BLE001  # whatever user code raises is judged
            for context in contexts:
                context.seal()
            return await self._judging.judge(head, error)
        if task.cancelling():
            await calm(task)
        if head.overdue:
            return await self._judging.judge(head, None)
        head.task = None
        await self._settle(items, made)
        return None

    async def _settle(self, items: Sequence[Item], results: Sequence[Any]) -> None:
        succeeded, ended = self._ways.succeeded, clock()
        for item, result in zip(items, results, strict=True):
            staged = item.context.seal() if item.context is not None else None
            left = succeeded(item.delivery, result, staged, ended - item.delivery.started)
            if left is not None:
                await left
