"""One function that answers requests: those that wait, the slots that they run in, and their answers.

Rule 1: a request that is admitted runs, and is answered once; one that is not is refused at once, and was not begun.
Rule 2: no task, timer or cancel scope is made per request; what is answered in one turn of the loop leaves in one write.
Rule 3: a handler that outlasts its time is cancelled. One that ignores that, and a thread, which cannot be cancelled, are
        answered for once, and hold their slot until they end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextvars import copy_context
from typing import Any

from runner import codec
from runner.bindings import Binding
from runner.context import Context
from runner.core import answered
from runner.core.service import QUEUE, UNAVAILABLE
from runner.core.settlement import Failed, Outcome, TimedOut, Undecodable
from runner.jetstream.wire import Unsubscribe
from runner.pipeline.awaited import finished, is_work
from runner.pipeline.call import Calling
from runner.runtime.runtime import Runtime
from runner.runtime.slots import clear_cancellation
from runner.services.answers import Answers, encoded
from runner.services.counts import Counts
from runner.services.deadlines import Deadlines, Slot
from runner.services.published import Published
from runner.services.reports import Reports
from runner.services.request import Request
from runner.services.waiting import Waiting
from runner.staged import Staged

TURN_SECONDS = 0.01  # a slot that worked this long without a pause lets the rest of the loop go on
ENDS = "the instance ends, and the handler was cancelled"

clock = time.monotonic


class Responder:
    """All slots of one function."""

    def __init__(self, runtime: Runtime, binding: Binding, answers: Answers) -> None:
        self.binding = binding
        self.stats = Counts()
        self._runtime = runtime
        self._answers = answers
        self._calling = self._make_calling()
        self._reports = Reports(runtime, binding)
        self._published = Published(runtime, binding)
        self.line = self._make_line()
        self._slots: set[Slot] = set()
        self._deadlines = Deadlines(self._slots, self._too_late, threaded=self._calling.threaded)
        self._unsubscribe: Unsubscribe | None = None
        runtime.quarantine.others.append(lambda: self.running)

    def _make_calling(self) -> Calling:
        return Calling(self._runtime, self.binding)

    def _make_line(self) -> Waiting:
        return Waiting(self._runtime, self._open_slot, self.binding, self._answers, self.stats)

    @property
    def running(self) -> int:
        """Handlers that run now."""
        return sum(slot.request is not None for slot in self._slots)

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return len(self.line.deliveries)

    @property
    def held(self) -> int:
        """Slots that are held by handlers whose askers were told already that it takes too long."""
        return sum(slot.request is not None and slot.request.answered for slot in self._slots)

    @property
    def unsettled(self) -> int:
        """Requests that were admitted and are not answered."""
        return self.queued + self.running - self.held

    @property
    def at_work(self) -> list[str]:
        """The requests that its handlers run with now, in words."""
        return [f"a request on {slot.request.text}" for slot in self._slots if slot.request is not None]

    async def open(self) -> None:
        """Take requests of the whole group from now on."""
        subject = self.binding.subject.wildcard
        self._unsubscribe = await self._runtime.connection.wire.subscribe(subject, self.line.arrive, QUEUE)

    @property
    def blocked(self) -> str:
        """Why no request comes here; empty while they do."""
        return "" if self._unsubscribe is not None else "not open yet"

    async def close(self) -> None:
        """Return once no more requests of the group come: those that were on their way are here."""
        if self._unsubscribe is not None:
            await self._unsubscribe()

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
        line, stats, room, here = self.line, self.stats, self.line.room, copy_context
        queue = line.deliveries
        call = self._calling.handler if self._calling.awaited else self._called
        bind, takes_context, seconds = self._bound, self._calling.takes_context, self.binding.timeout
        tracing, quarantine, slots = self._runtime.tracing, self._runtime.quarantine, self._runtime.slots
        traced, admit, begin = tracing.enabled, tracing.gate.admit, self._reports.begin
        connection, deadlines = self._runtime.connection, self._deadlines
        flush, wait = connection.wire.flush, line.wait
        succeed, stores = self._succeed, self.binding.output is not None
        variables, observes, facts = slots.context, self._reports.observes, self._facts
        context: Context[Any] | None = None
        plain: type[Any] | None = None  # of a result that is no work: most are of one type
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
                line.bytes -= len(request.body)
                if now >= request.expires:
                    line.turn_away(request, "expired")
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
                    self._fail(request, Undecodable(codec.explain(error)))
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
                        result = await self._store(request, result, staged)
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
                if request.late:  # though the handler may have taken the cancellation back
                    stats.durations.append(now - request.started)
                    self._fail(request, TimedOut(request.until - request.started))
                    continue
                try:
                    succeed(request, result, most)
                except Exception as error:  # noqa: BLE001  # of a value that cannot be sent
                    stats.durations.append(now - request.started)
                    self._fail(request, Failed(error))
                    continue
                count += 1
                stats.acked += 1
                stats.ended += (request.arrived, request.started, now)
                if admitted:
                    span.end_answered(answered.OK)
                if observes:
                    self._reports.succeeded(request, now - request.started)
            if count > 1:  # a single answer goes with those of other slots, when this turn of the loop ends
                flush()
            request = arguments = context = result = staged = span = None  # type: ignore[assignment]  # not kept while idle
            room.idle = True
            await wait()
            began = now = clock()

    async def _called(self, *arguments: Any) -> Any:
        return await self._calling(arguments)

    def _bound(self, request: Request, context: Context[Any] | None) -> Sequence[Any]:
        """The arguments of the handler. Raises whatever decoding raises."""
        return self._calling.bind(request.subject, request.body, request.msgpack, context)

    async def _store(self, request: Request, result: Any, staged: list[Staged] | None) -> Any:
        """Store what was made, where the result can be sent; the result. Raises ServerError and ValueError."""
        if staged:
            encoded(request, result, self._runtime.connection.max_payload)
            await self._published.store(request, staged)
        return result

    def _succeed(self, request: Request, result: Any, most: int) -> None:
        """Answer with a result; the server takes `most` bytes. Raises ValueError where it cannot be sent."""
        body, head = encoded(request, result, most)
        if request.reply:
            self._answers.send(request.reply, body, head, request.expires)

    def _facts(self, request: Request) -> dict[str, Any]:
        """What a context tells, once it is asked."""
        return {
            "function": self.binding.function,
            "subject": request.text,
            "template": self.binding.subject,
            "headers": request.header,
            "timestamp_ns": time.time_ns() - int((clock() - request.arrived) * 1e9),
            "expires": request.until,
            "state": self._runtime.state,
            "host": self._runtime.requester,
        }

    # -- what did not succeed ---------------------------------------------------------------------------

    async def _raised(self, slot: Slot, request: Request, error: BaseException) -> None:
        """The handler has raised, or what it has published could not be stored."""
        slot.request = None
        self.stats.durations.append(clock() - request.started)
        if isinstance(error, asyncio.CancelledError) and self._ending:
            if not request.answered:
                self._cut_off(request)
            raise error
        if slot.task.cancelling():
            await clear_cancellation(slot.task)
        self._fail(request, TimedOut(request.until - request.started) if request.late else Failed(error))

    def _cut_off(self, request: Request) -> None:
        """Its handler was cancelled, since the process ends."""
        request.answered = True
        self.stats.error(UNAVAILABLE, ENDS, request.started - request.arrived)
        if request.reply:
            self._answers.send(request.reply, b"", answered.headers(UNAVAILABLE, ENDS), request.expires)
        self._reports.cut_off(request, ENDS)

    @property
    def _ending(self) -> bool:
        """Whether a cancellation is meant for the slots: the process ends."""
        return self._runtime.cancelling or bool(self._runtime.tasks.cancel_scope.cancel_called)

    def _fail(self, request: Request, outcome: Outcome) -> None:
        """Answer with an error, once."""
        if request.answered:
            self._reports.late_end(request)
            return
        request.answered = True
        answer = answered.answered(outcome)
        hidden = self._reports.hidden(request)
        text = answered.one_line(hidden.hide(answer.text))
        self.stats.error(answer.code, text, request.started - request.arrived)
        if request.reply:
            self._answers.send(request.reply, b"", answered.headers(answer.code, text), request.expires)
        self._reports.failed(request, outcome, answer, clock() - request.started, hidden)

    def _too_late(self, request: Request) -> None:
        """Its handler ignores its timeout, or cannot be told."""
        self._fail(request, TimedOut(seconds := request.until - request.started))
        self._reports.held(seconds)

    def sweep(self, now: float) -> None:
        """Called about ten times a second."""
        self.line.sweep(now)
        self.stats.collect()
