"""Ordered batches: one call for many messages, and still no message is done before an earlier one of its key.

Rule 1: the messages of a key are settled in their order. If one fails, the later ones of its key in the batch count as not done:
        they run again after it, never before. Other keys do not wait.
Rule 2: a batch that fails as a whole, or takes too long, goes back into its lanes, and smaller ones are called until the failing
        message is alone. Each starts once the settlements of the one before are on record, as for single messages. Such calls do
        not count as attempts.
Rule 3: outputs of a batch are sent together, in order, and its slot is free once they are confirmed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from runner.bindings import Binding
from runner.core import inorder
from runner.core.settlement import Failed, Outcome, Undecodable
from runner.core.signals import PartialFailure, Retry
from runner.errors import ServerError
from runner.jetstream.concurrent import map_concurrently
from runner.jetstream.delivery import Delivery
from runner.jetstream.publisher import is_stored
from runner.pipeline.batchcall import BatchCall, is_changed
from runner.pipeline.batched import Batched
from runner.pipeline.outcomes import Outcomes, StartGuard
from runner.pipeline.queue import Queue
from runner.pipeline.settle import REPEAT_SECONDS
from runner.pipeline.together import Together
from runner.runtime.runtime import Runtime
from runner.staged import Staged

log = logging.getLogger("jetrunner.pipeline")

clock = time.monotonic


class Confirming:
    """The outputs of a batch that are on their way; `wait` returns once each has its answer."""

    def __init__(self, ways: Together) -> None:
        self.stored: set[Delivery] = set()
        """The messages whose outputs are stored."""
        self._ways = ways
        self._left = 0
        self._done: asyncio.Future[None] | None = None

    def send(self, delivery: Delivery, result: Any) -> bool:
        """Send an output without waiting; False if it has to go the long way."""
        self._left += 1
        if self._ways.send(delivery, result, self._answered):
            return True
        self._left -= 1
        return False

    def _answered(
        self, delivery: Delivery, _: bytes | None, answer: bytes, error: ServerError | None
    ) -> None:
        if error is None and is_stored(answer):
            self._ways.outputs.newest = delivery, answer, clock()
            self.stored.add(delivery)
            if delivery.span is not None:
                self._ways.confirmed(delivery, answer)
        elif delivery.span is not None:
            delivery.sent.end(error=error or "unconfirmed")
        self._left -= 1
        if not self._left and self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def wait(self) -> None:
        """Return once each output has its answer, or will get none."""
        if self._left:
            self._done = asyncio.get_running_loop().create_future()
            await self._done


class OrderedBatching:
    """The batches of one ordered function."""

    guard: StartGuard | None = None
    """Says whether messages may start."""

    def __init__(
        self,
        runtime: Runtime,
        binding: Binding,
        call: BatchCall,
        outcomes: Outcomes,
        ways: Together,
        queue: Queue,
    ) -> None:
        self._function = binding.function
        self._call = call
        self._outcomes = outcomes
        self._ways = ways
        self._queue = queue
        self._slots, self._quarantine = runtime.slots, runtime.quarantine

    async def work(self, task: asyncio.Task[Any]) -> None:
        """The work of a slot; returns when the process ends, or when a handler has left a context variable behind."""
        queue = self._queue
        while not self._slots.ending:
            if not queue.deliveries:
                await queue.line.wait()
            elif self._quarantine.closed:
                await self._quarantine.wait_open()
            elif self.guard is not None and not self.guard.may_start(clock()):
                await self.guard.wait()
            else:
                await self._lead(queue.deliveries.popleft(), task)
                if is_changed(self._slots.context):
                    return
                await asyncio.sleep(0)

    async def _lead(self, lead: Delivery, task: asyncio.Task[Any]) -> None:
        """Run the batch that a message leads; a message on its way back has no batch, and runs alone."""
        batches: Batched | None = getattr(lead.source, "batches", None)
        if batches is None:
            await self._ways.handle(lead, task)
            return
        deliveries, alone = batches.take(lead), list[Delivery]()
        try:
            await self._run(batches, deliveries, alone, task)
        except (
            Exception,
            asyncio.CancelledError,
        ) as error:  # the slot must live on, and the messages come again
            if isinstance(error, asyncio.CancelledError) and self._outcomes.ending:
                raise
            log.exception("%s: a batch could not be settled", self._function)
            begun = [
                each for each in deliveries if each.started or each in alone
            ]  # others are in their lanes
            self._put_off(batches, [each for each in begun if not each.settled])
        finally:
            batches.end()

    def _put_off(self, batches: Batched, deliveries: Sequence[Delivery]) -> None:
        keys = [batches.key(each) for each in deliveries]
        division = inorder.divide(keys, range(len(keys)))
        batches.put_back([deliveries[at] for at in division.behind])
        for at in division.first:
            deliveries[at].source.later(deliveries[at], REPEAT_SECONDS)

    async def _run(
        self, batches: Batched, deliveries: list[Delivery], alone: list[Delivery], task: asyncio.Task[Any]
    ) -> None:
        """Run a batch. Nothing is awaited before the call, so the batch is still this instance's. `alone` gets those that run after it."""
        plain, marked = self._ways.plain(deliveries), dict[int, Undecodable | None]()
        if len(plain) < len(deliveries):
            chosen = {each.sequence for each in plain}
            marked = {at: None for at, each in enumerate(deliveries) if each.sequence not in chosen}
        places = [at for at in range(len(deliveries)) if at not in marked]
        batch, wrong = self._call.bind([deliveries[at] for at in places])
        marked |= {places[at]: Undecodable(error) for at, error in wrong.items()}
        first: list[int] = []
        if marked:  # each is a batch of its own, that ends the one before it
            keys = [batches.key(each) for each in deliveries]
            division = inorder.divide(keys, marked)
            begun = {keys[at] for at in division.before}
            first = [at for at in division.first if keys[at] not in begun]
            behind = [at for at in division.first if keys[at] in begun]
            batches.put_back([deliveries[at] for at in sorted([*division.behind, *behind])])
            batch = batch.only([deliveries[at] for at in division.before])
            alone += [deliveries[at] for at in first]
        if batch.deliveries:
            self._ways.begin(batch.deliveries)
            outcome, made = await self._call(batch, task)
            await self._judged(batches, batch.deliveries, outcome, made, batch.seal())
        for at in first:
            alone.remove(deliveries[at])
            if (undecodable := marked[at]) is None:
                await self._ways.handle(deliveries[at], task)
            else:
                self._ways.begin([deliveries[at]])
                await self._ways.failed(deliveries[at], undecodable)

    async def _judged(
        self,
        batches: Batched,
        deliveries: Sequence[Delivery],
        outcome: Outcome | None,
        made: Sequence[Any],
        staged: Sequence[list[Staged] | None] | None,
    ) -> None:
        """Settle each message by the outcome of the call."""
        count = len(deliveries)
        if outcome is None:
            batches.succeeded(deliveries)
            await self._settle(batches, deliveries, made, staged, {})
            return
        error = outcome.error if isinstance(outcome, Failed) else None
        if isinstance(error, PartialFailure):
            failed = {at: Failed(each) for at, each in error.failures.items()}
            await self._settle(batches, deliveries, [None] * count, staged, failed)
        elif count > 1 and not isinstance(error, Retry):
            batches.failed(deliveries)
            batches.put_back(deliveries)
        else:
            if count == 1 and not isinstance(error, Retry):
                batches.failed(deliveries)
            await self._settle(
                batches, deliveries, [None] * count, None, dict.fromkeys(range(count), outcome)
            )

    async def _settle(
        self,
        batches: Batched,
        deliveries: Sequence[Delivery],
        made: Sequence[Any],
        staged: Sequence[list[Staged] | None] | None,
        failed: Mapping[int, Outcome],
    ) -> None:
        """Settle the messages of each key in their order, up to the first that has failed."""
        keys = [batches.key(each) for each in deliveries]
        division = inorder.divide(keys, failed)
        batches.put_back([deliveries[at] for at in division.behind])
        fine: dict[Hashable, list[int]] = {}
        for at in division.before:
            fine.setdefault(keys[at], []).append(at)
        stopped = await self._succeeded(batches, deliveries, made, staged, fine)
        for at in division.first:
            if keys[at] in stopped:
                batches.put_back([deliveries[at]])
            else:
                await self._ways.failed(deliveries[at], failed[at])

    async def _succeeded(
        self,
        batches: Batched,
        deliveries: Sequence[Delivery],
        made: Sequence[Any],
        staged: Sequence[list[Staged] | None] | None,
        keys: Mapping[Hashable, list[int]],
    ) -> set[Hashable]:
        """Settle these messages of each key once their outputs are stored; returns the keys that stopped at a message that failed."""
        ways, confirming = self._ways, Confirming(self._ways)
        ways.took([deliveries[at] for places in keys.values() for at in places])
        left: dict[Hashable, list[int]] = {}
        for key, places in keys.items():
            for n, at in enumerate(places):
                published = staged[at] if staged is not None else None
                if deliveries[at].settled or (not published and (made[at] is None or not ways.publishes)):
                    continue  # its shard was lost while the handler ran, or it has no outputs
                if published or not confirming.send(deliveries[at], made[at]):
                    left[key] = places[n:]
                    break
        await confirming.wait()
        for key, places in keys.items():
            slow = left[key][0] if key in left else -1
            for n, at in enumerate(places):
                if at == slow:
                    break
                if made[at] is None or not ways.publishes or deliveries[at] in confirming.stored:
                    ways.ack(deliveries[at])
                elif not deliveries[at].settled:
                    left[key] = places[n:]
                    break
        stopped: set[Hashable] = set()

        async def store(key: Hashable) -> None:
            for n, at in enumerate(places := left[key]):
                published = staged[at] if staged is not None else None
                if not await ways.store(deliveries[at], made[at], published):
                    stopped.add(key)
                    batches.put_back([deliveries[later] for later in places[n + 1 :]])
                    return

        await map_concurrently(store, list(left))
        return stopped
