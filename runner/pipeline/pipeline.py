"""One delivery's way, from arrival to ack: decode → call → settle → apply.

No task, timer or cancel scope is made per message. The sweeper watches deadlines and ack waits. A handler that leaves a context
variable set ends its slot, so that no other message sees it. `_work` handles the common case, `_handle` the rest: a delivery that
is not the first (`careful`), MessagePack, an empty body, an old message, a thread, a generator, an observer, a failure.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextvars import copy_context
from functools import partial
from math import inf
from typing import Any

from runner import codec
from runner.bindings import Binding
from runner.context import Context
from runner.core.settlement import Failed, Outcome, Succeeded, TimedOut, Undecodable
from runner.errors import ServerError, ShardLost
from runner.jetstream.delivery import Delivery
from runner.jetstream.publisher import is_stored
from runner.jetstream.pull import Pull
from runner.pipeline.arrivals import Ways
from runner.pipeline.awaited import finished, is_work
from runner.pipeline.batch import Batching
from runner.pipeline.batchcall import BatchCall
from runner.pipeline.call import Calling
from runner.pipeline.confined import Confined, Ended
from runner.pipeline.firings import Firings
from runner.pipeline.gathering import Gathering
from runner.pipeline.inchild import InChild
from runner.pipeline.message import Incoming, read
from runner.pipeline.orderedbatch import OrderedBatching
from runner.pipeline.outcomes import Outcomes, StartGuard
from runner.pipeline.outputs import Outputs
from runner.pipeline.poison import Suspected
from runner.pipeline.queue import Queue
from runner.pipeline.reporter import Reporter, told
from runner.pipeline.settle import REPEAT_SECONDS, Settling
from runner.pipeline.start_records import StartRecords
from runner.pipeline.stats import Stats
from runner.pipeline.together import Single, Together
from runner.runtime.runtime import Runtime
from runner.runtime.slots import clear_cancellation
from runner.staged import Staged
from runner.telemetry.keys import CURRENT

log = logging.getLogger("jetrunner.pipeline")

TURN_SECONDS = 0.01
"""A slot that has worked this long without a pause lets other tasks of the loop run."""

clock = time.monotonic


class Pipeline:
    """All slots of one function."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self.binding = binding
        self.stats = Stats(runtime.connection.clock.now)
        self._runtime = runtime
        self.calling = Calling(runtime, binding)
        own_way = binding.schedule is not None or binding.in_process
        self._straight = self.calling.awaited and runtime.observer is None and not own_way
        self._outputs = Outputs(runtime, binding)
        self._attempts = Reporter(runtime, binding)
        self.suspects = StartRecords(runtime, binding.function)
        self._outcomes = Outcomes(runtime, binding)
        self._settling = Settling(runtime, binding, self.stats, self.suspects, self._attempts)
        self._firings = Firings(runtime, binding) if binding.schedule is not None else None
        if self._firings is not None:
            self._settling.ending = self._firings.ended
        self.queue = Queue(runtime.tasks, self._open_slot, binding.concurrency)
        self._suspected = Suspected(
            runtime, binding.function, self.suspects, self._settling, self._outcomes, self.queue, self.owns
        )
        until = lambda: self.guard.until if self.guard is not None else inf  # noqa: E731
        self._confined = Confined(
            binding.function, self._attempts, self._outcomes, self.stats, self.owns, until
        )
        self._in_child: InChild | None = None
        if binding.in_process:
            attempts = binding.retry.attempts
            self._in_child = InChild(runtime, binding.function, attempts, self._confined.run)
        self.pulls: list[Pull] = []
        self.guard: StartGuard | None = None
        """For an ordered function: says whether messages may start."""
        runtime.quarantine.pulls.append(self.pulls)
        single = Single(self._alone, self._send, self._safely, self._stored)
        ways = Together(runtime, binding, self._settling, self._outputs, self._attempts, self.stats, single)
        call = BatchCall(binding, self.calling, self._outcomes, self._attempts)
        self._batching = Batching(runtime, binding, call, ways, self.queue)
        self._ordered = OrderedBatching(runtime, binding, call, self._outcomes, ways, self.queue)
        self.gathering: Gathering | None = None
        if binding.joins is not None:
            self.gathering = Gathering(runtime, binding, self.queue, Ways(self._alone, ways.failed))
            self._settling.ending = self.gathering.ended

    def _open_slot(self) -> None:
        work = self._work
        if self.binding.batch and self.binding.ordered_by:
            work, self._ordered.guard = self._ordered.work, self.guard
        elif self.binding.batch:
            work = self._batching.work
        elif self.gathering is not None:
            work = self.gathering.work
        self._runtime.slots.open(self._runtime.tasks, work, f"{self.binding.function} slot")

    async def _work(self, task: asyncio.Task[Any]) -> None:  # noqa: C901, PLR0912, PLR0915  # hot: one straight function
        queue, stats, quarantine = self.queue.deliveries, self.stats, self._runtime.quarantine
        straight, call, bind = self._straight, self.calling.handler, self.calling.bind
        contexts = self.calling.context if self.calling.takes_context else None
        aged = self._settling.aged if self.binding.max_age is not None else None
        output, outputs = self.binding.output, self._outputs
        tracing, wait, here = self._runtime.tracing, self.queue.line.wait, copy_context
        flush = self._runtime.connection.wire.flush
        traced, admit = tracing.enabled, tracing.gate.admit
        guard, pause, slots = self.guard, self.queue.line.pause, self._runtime.slots
        variables, attempts = slots.context, self._attempts
        context: Context[Any] | None = None
        plain: type[Any] | None = None  # the type of a result that is no work: most results are of one type
        began = now = clock()
        while not slots.ending:
            count = 0
            passing = tracing.passing(self.binding.function)
            while queue:
                try:
                    if here() != variables:
                        return
                except Exception:  # noqa: BLE001  # a handler has bound a value that cannot be compared
                    return
                if quarantine.closed:
                    await quarantine.wait_open()
                    began = now = clock()
                    continue
                if now - began > TURN_SECONDS:
                    await asyncio.sleep(0)
                    began = now = clock()
                    if guard is not None:
                        guard.works(now)
                    continue
                if guard is not None and now >= guard.until:
                    pause(guard.wait)
                    break
                delivery = queue.popleft()
                header = delivery.header
                admitted = traced and admit(header)
                if (
                    not straight
                    or delivery.careful
                    or (header is not None and (not delivery.body or b"msgpack" in header.lower()))
                    or (aged is not None and aged(delivery))
                ):
                    await self._safely(delivery, self._handle(delivery, task, admitted))
                    now = clock()
                    continue
                if admitted:
                    span = delivery.span = attempts.begin(delivery)
                if contexts is not None:
                    context = contexts(delivery)
                try:
                    arguments = bind(delivery.subject, delivery.body, False, context)
                except Exception as error:  # noqa: BLE001  # a type's own validation may raise anything
                    undecodable = Undecodable(codec.explain(error))
                    await self._safely(delivery, self._settling.finish(read(delivery), undecodable))
                    now = clock()
                    continue
                delivery.started = now
                delivery.task = task
                if admitted:
                    span.activate()
                elif passing is not None:
                    token = CURRENT.set(passing(delivery))
                try:
                    result = await call(*arguments)
                    if result is not None and type(result) is not plain:
                        if is_work(result):
                            result = await finished(result)
                        else:
                            plain = type(result)
                except BaseException as error:  # noqa: BLE001  # whatever user code raises is judged
                    if context is not None:
                        context.seal()
                    if admitted:
                        span.deactivate()
                    elif passing is not None:
                        CURRENT.reset(token)
                    await self._safely(delivery, self._judged(delivery, error))
                    now = clock()
                    continue
                staged = context.seal() if context is not None else None
                if admitted:
                    span.deactivate()
                elif passing is not None:
                    CURRENT.reset(token)
                if task.cancelling():  # by the deadline, or by the handler itself
                    await clear_cancellation(task)
                if delivery.overdue:  # even if the handler has swallowed the cancellation
                    await self._safely(delivery, self._judged(delivery, None))
                    now = clock()
                    continue
                delivery.task = None
                count += 1
                ended = clock()
                stats.durations.append(ended - now)
                if admitted:
                    stats.spans += (span, ended - now)
                now = ended
                if staged:
                    delivery.result = result
                    await self._safely(delivery, self._send(delivery, staged))
                    now = clock()
                elif result is None or output is None:
                    if admitted and not delivery.settled:
                        span.end_ack()
                    delivery.source.ack(delivery)
                    stats.acked += 1
                    stats.ended += (delivery.reply, delivery.started, ended)
                else:
                    delivery.result = result
                    if not outputs.send(delivery, result, self._stored):
                        await self._safely(delivery, self._send(delivery, []))
                        now = clock()
            if count > 1:  # a single ack is sent with those of other slots, when this turn of the loop ends
                flush()
            delivery = header = arguments = context = result = staged = span = None  # type: ignore[assignment]  # not kept while idle
            await wait()
            began = now = clock()
            if guard is not None:
                guard.works(now)

    async def _safely(self, delivery: Delivery, way: Coroutine[Any, Any, Any]) -> Any:
        """Await the coroutine that settles a message, and return its result. If it raises, only this message comes again."""
        attempt = delivery.attempt
        try:
            return await way
        except (Exception, asyncio.CancelledError) as error:  # the slot must live on
            if isinstance(error, asyncio.CancelledError) and self._outcomes.ending:
                raise
            incoming = read(delivery)
            facts = self.binding.function, incoming.id, self._attempts.hiding(incoming)(told(Failed(error)))
            log.error("%s: %s could not be settled: %s", *facts)
            if delivery.attempt != attempt:
                return None  # its next attempt is due already
            if delivery.started:
                await delivery.source.again(delivery, REPEAT_SECONDS)
            else:
                delivery.source.later(delivery, REPEAT_SECONDS)
        return None

    async def _alone(self, delivery: Delivery, task: Any, admitted: bool) -> None:
        await self._safely(delivery, self._handle(delivery, task, admitted))

    async def _handle(self, delivery: Delivery, task: Any, admitted: bool) -> None:
        """The whole way of a message that `_work` does not handle."""
        incoming = read(delivery)
        if not delivery.body and self._settling.passed_over(incoming):
            return
        if self.binding.max_age is not None and await self._settling.expired(incoming):
            return
        if delivery.joined is None and (made := self._outputs.passed_on(incoming)) is not None:
            await self._store(incoming, Succeeded(), made)
            return
        if self._firings is not None and not await self._firings.admit(incoming):
            return
        if self._in_child is not None:
            ended = await self._in_child.run(incoming, task, admitted)
        elif (delivery.deliveries or delivery.attempt) > 1:  # suspect
            facts = incoming, task, admitted
            ended = await self._suspected.run(
                incoming, partial(self._run, *facts), partial(self._confined.run, *facts)
            )
        else:
            ended = await self._run(incoming, task, admitted)
        if ended is not None:
            await self._store(incoming, *ended)

    async def _run(self, incoming: Incoming, task: Any, admitted: bool) -> Ended | None:
        """The handler's outcome and outputs; None if the message is another owner's by now."""
        if self.guard is not None and not await self.owns(incoming.delivery):
            return None
        context = self.calling.context(incoming.delivery)
        outcome = await self._call(incoming, context, task, admitted)
        staged = context.seal() or []
        return self._made(incoming, staged) if isinstance(outcome, Succeeded) else (outcome, staged)

    async def owns(self, delivery: Delivery) -> bool:
        """Wait until messages may start; returns whether the message is still ours."""
        while self.guard is not None and not self.guard.may_start(clock()):
            await self.guard.wait()
        return not delivery.settled

    async def _call(self, incoming: Incoming, context: Context, task: Any, admitted: bool) -> Outcome:
        delivery = incoming.delivery
        span = delivery.span = self._attempts.start(incoming, admitted)
        passing = self._runtime.tracing.passing(self.binding.function) if span is None else None
        token = CURRENT.set(passing(delivery)) if passing is not None else None
        if span is not None:
            span.activate()
        try:
            try:
                arguments = self.calling.bound(incoming, context)
            except Exception as error:  # noqa: BLE001  # a type's own validation may raise anything
                return Undecodable(codec.explain(error))
            delivery.started = clock()
            delivery.task = task
            try:
                delivery.result = await self.calling(arguments)
            except BaseException as error:  # noqa: BLE001  # whatever user code raises is judged
                return await self._outcomes.outcome_of(delivery, error)
            finally:
                self.stats.took(clock() - delivery.started, span)
            if task.cancelling():
                await clear_cancellation(task)
            if delivery.overdue:
                return await self._outcomes.outcome_of(delivery, None)
            delivery.task = None
            return Succeeded()
        finally:
            if span is not None:
                span.deactivate()
            elif token is not None:
                CURRENT.reset(token)

    async def _judged(self, delivery: Delivery, error: BaseException | None) -> None:
        self.stats.took(clock() - delivery.started, delivery.span)
        await self._settling.finish(read(delivery), await self._outcomes.outcome_of(delivery, error))

    # -- outputs and settlement -------------------------------------------------------------------------

    def _made(self, incoming: Incoming, staged: list[Staged]) -> Ended:
        """The handler's outputs; if they cannot be encoded, the handler has failed."""
        try:
            return Succeeded(), self._outputs.collect(incoming.delivery.result, staged, incoming)
        except ValueError as error:
            return Failed(error), []

    async def _send(self, delivery: Delivery, staged: list[Staged]) -> bool:
        """Store outputs that cannot be sent without waiting, and settle; whether the message has succeeded."""
        incoming = read(delivery)
        return await self._store(incoming, *self._made(incoming, staged))

    async def _store(self, incoming: Incoming, outcome: Outcome, made: list[Staged]) -> bool:
        """Store the outputs, then settle; whether the message has succeeded."""
        delivery = incoming.delivery
        if made and isinstance(outcome, Succeeded):
            if delivery.settled:
                return False  # its shard was lost while the handler ran: its outputs do not count
            try:
                await self._outputs.store(made, incoming)
                self.stats.outputs += len(made)
            except ShardLost:
                if not delivery.settled:
                    await self._settling.give_back(incoming)
                return False
            except (ServerError, ValueError) as error:
                outcome = Failed(error)
        await self._settling.finish(incoming, outcome)
        return isinstance(outcome, Succeeded)

    def _stored(self, delivery: Delivery, _: bytes | None, answer: bytes, error: ServerError | None) -> None:
        """The PubAck of a single output has arrived, or will not come."""
        span = delivery.span
        if error is None and is_stored(answer):
            if b"duplicate" not in answer:
                self._outputs.newest = delivery, answer, clock()
            if span is not None:
                self._outputs.confirmed(delivery, answer)
                if not delivery.settled:
                    span.end_ack()
            delivery.source.ack(delivery)
            self.stats.acked += 1
            self.stats.outputs += 1
            self.stats.ended += (delivery.reply, delivery.started, clock())
        elif not self._outcomes.ending:
            if span is not None:
                delivery.sent.end(error=error or "unconfirmed")
            self._runtime.tasks.start_soon(self._safely, delivery, self._send(delivery, []))

    async def pass_over_missed(self) -> None:
        """Pass over all waiting firings but the last: no instance has run for a while."""
        if self._firings is not None:
            await self._firings.missed()

    async def time_out(self, delivery: Delivery) -> None:
        """Settle a message whose handler does not end; its slot stays taken until the handler ends."""
        await self._safely(delivery, self._settling.finish(read(delivery), TimedOut(self.binding.timeout)))

    async def cancelled(self, delivery: Delivery) -> None:
        """Give back a message whose handler is being cancelled."""
        if not delivery.settled:
            try:
                await self._settling.give_back(read(delivery))
            except ServerError:  # its start record stays; the end of the process must not wait for it
                delivery.source.give_back(delivery)
