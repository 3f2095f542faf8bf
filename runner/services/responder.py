"""One function that answers requests: the requests that wait, the slots that they run in, and their answers.

Rule 1: a request that is admitted runs, and is answered once. A request that is not admitted is refused at once, and does not
        begin.
Rule 2: no task, timer or cancel scope is made per request. All answers of one turn of the event loop are sent in one write.
Rule 3: a handler that exceeds its time is cancelled. If it ignores that, or runs in a thread, which cannot be cancelled, the asker
        gets one answer on time, and the handler keeps its slot until it ends.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import copy_context
from typing import Any

from runner import codec
from runner.context import Context
from runner.core import answered
from runner.core.settlement import Failed, TimedOut, Undecodable
from runner.pipeline.awaited import finished, is_work
from runner.runtime.runtime import Runtime
from runner.runtime.slots import clear_cancellation
from runner.services.channel import Channel
from runner.services.request import Request
from runner.services.requestdeadlines import RequestDeadlines, Slot
from runner.services.waiting import Waiting

TURN_SECONDS = 0.01  # a slot that worked this long without a pause lets the rest of the loop go on

clock = time.monotonic


class Responder:
    """All slots of one function."""

    def __init__(self, runtime: Runtime, channel: Channel[Any]) -> None:
        self.binding = channel.binding
        self.stats = channel.stats
        self.waiting = channel.waiting = Waiting(
            runtime, self._open_slot, channel.binding, channel.turn_away, channel.stats
        )
        self._runtime = runtime
        self._channel = channel
        self._slots: set[Slot] = set()
        self._deadlines = RequestDeadlines(self._slots, channel.too_late, threaded=channel.calling.threaded)
        runtime.quarantine.others.append(lambda: self.running)

    @property
    def running(self) -> int:
        """Handlers that run now."""
        return sum(slot.request is not None for slot in self._slots)

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return len(self.waiting.requests)

    @property
    def held(self) -> int:
        """Slots held by handlers whose askers were already told that it takes too long."""
        return sum(slot.request is not None and slot.request.answered for slot in self._slots)

    @property
    def unsettled(self) -> int:
        """Requests that were admitted and are not answered."""
        return self.queued + self.running - self.held

    @property
    def at_work(self) -> list[str]:
        """The requests that the function's handlers run with now, in words."""
        return [f"a request on {slot.request.text}" for slot in self._slots if slot.request is not None]

    @property
    def blocked(self) -> str:
        """Why no requests come here; empty while they do."""
        return self._channel.blocked

    def _open_slot(self) -> None:
        self._runtime.slots.open(self._runtime.tasks, self._work, f"{self.binding.function} slot")

    async def _work(self, task: asyncio.Task[Any]) -> None:
        slot = Slot(task)
        self._slots.add(slot)
        try:
            await self._run(slot, task)
        finally:
            self._slots.discard(slot)

    async def _run(self, slot: Slot, task: asyncio.Task[Any]) -> None:  # noqa: C901, PLR0912, PLR0915  # hot: one straight function
        channel, waiting, stats, here = self._channel, self.waiting, self.stats, copy_context
        queue, room, wait = waiting.requests, waiting.room, waiting.line.wait
        call, bind, takes_context = channel.call, channel.bound, channel.calling.takes_context
        reports, seconds = channel.reports, self.binding.timeout
        tracing, quarantine, slots = self._runtime.tracing, self._runtime.quarantine, self._runtime.slots
        traced, admit, begin = tracing.enabled, tracing.gate.admit, reports.begin
        connection, deadlines = self._runtime.connection, self._deadlines
        flush, succeed, fail = connection.wire.flush, channel.succeed, channel.fail
        stores, facts = self.binding.output is not None, channel.facts
        variables, observes = slots.context, reports.observes
        context: Context[Any] | None = None
        plain: type[Any] | None = None  # a type of result that is no work: most results are of one type
        began = now = clock()
        while not slots.ending:
            count, most = 0, connection.max_payload
            while queue:
                try:
                    if here() != variables:
                        return
                except Exception:  # noqa: BLE001  # of a value that a handler bound, and that cannot be compared
                    return
                if quarantine.closed:
                    await quarantine.wait_open()
                    began = now = clock()
                    continue
                if now - began > TURN_SECONDS:
                    await asyncio.sleep(0)
                    began = now = clock()
                    continue
                request = queue.popleft()
                waiting.bytes -= len(request.body)
                if now >= request.expires:
                    channel.turn_away(request, "expired")
                    continue
                request.started = now
                request.until = min(request.expires, now + seconds)
                admitted = traced and admit(request.header)
                if admitted:
                    span = request.span = begin(request)
                if takes_context:
                    context = Context.about(request, 1, facts)
                try:
                    arguments = bind(request, context)
                except Exception as error:  # noqa: BLE001  # a type's own validation may raise anything
                    fail(request, Undecodable(codec.explain(error)))
                    now = clock()
                    continue
                slot.request = request
                if not deadlines.looking:
                    deadlines.look_soon()
                if admitted:
                    span.activate()
                try:
                    result = await call(*arguments)
                    if result is not None and type(result) is not plain:
                        if is_work(result):
                            result = await finished(result)
                        else:
                            plain = type(result)
                    staged = context.seal() if context is not None else None
                    if staged or stores:
                        result = await channel.store(request, result, staged)
                except BaseException as error:  # noqa: BLE001  # whatever user code raises is judged
                    if context is not None:
                        context.seal()
                    if admitted:
                        span.deactivate()
                    await self._raised(slot, request, error)
                    now = clock()
                    continue
                slot.request = None
                if admitted:
                    span.deactivate()
                if task.cancelling():  # at the deadline, or by the handler itself
                    await clear_cancellation(task)
                now = clock()
                if request.late:  # even if the handler has suppressed the cancellation
                    stats.durations.append(now - request.started)
                    fail(request, TimedOut(request.until - request.started))
                    continue
                try:
                    succeed(request, result, most)
                except Exception as error:  # noqa: BLE001  # of a value that cannot be sent
                    stats.durations.append(now - request.started)
                    fail(request, Failed(error))
                    continue
                count += 1
                stats.acked += 1
                stats.ended += (request.arrived, request.started, now)
                if admitted:
                    span.end_answered(answered.OK)
                if observes:
                    reports.succeeded(request, now - request.started)
            if count > 1:  # a single answer goes with those of other slots, at the end of this turn
                flush()
            request = arguments = context = result = staged = span = None  # type: ignore[assignment]  # not kept while idle
            room.idle = True
            await wait()
            began = now = clock()

    async def _raised(self, slot: Slot, request: Request, error: BaseException) -> None:
        """Handle an exception of the handler, or of storing what it has published."""
        slot.request = None
        self.stats.durations.append(clock() - request.started)
        if isinstance(error, asyncio.CancelledError) and self._ending:
            if not request.answered:
                self._channel.cut_off(request)
            raise error
        if slot.task.cancelling():
            await clear_cancellation(slot.task)
        self._channel.fail(
            request, TimedOut(request.until - request.started) if request.late else Failed(error)
        )

    @property
    def _ending(self) -> bool:
        """Whether the process ends, so that a cancellation is meant for the slots."""
        return self._runtime.cancelling or bool(self._runtime.tasks.cancel_scope.cancel_called)

    def sweep(self, now: float) -> None:
        """Refuse expired requests and collect counts; called about ten times a second."""
        self.waiting.sweep(now)
        self.stats.collect()
