"""Requests of one function over NATS: the group's subscription, admission, and answers that leave by the reply subject."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from runner.bindings import Binding
from runner.context import Context
from runner.core import answered
from runner.core.service import QUEUE, UNAVAILABLE, NotStarted
from runner.core.settlement import Outcome, TimedOut
from runner.jetstream.wire import Unsubscribe
from runner.pipeline.call import Calling
from runner.runtime.runtime import Runtime
from runner.services.answers import Answers, encoded
from runner.services.channel import ENDS, facts_of
from runner.services.counts import Counts
from runner.services.published import Published
from runner.services.reports import Reports
from runner.services.request import Request, read
from runner.services.waiting import Waiting
from runner.staged import Staged

clock = time.monotonic


class NatsChannel:
    """The channel of one function over NATS."""

    waiting: Waiting

    def __init__(self, runtime: Runtime, binding: Binding, answers: Answers) -> None:
        self.binding = binding
        self.stats = Counts()
        self.reports = Reports(runtime, binding)
        self.calling = Calling(runtime, binding)
        self.call = self.calling.handler if self.calling.awaited else self._called
        self._runtime = runtime
        self._answers = answers
        self._may = answers.may
        self._published = Published(runtime, binding)
        self._unsubscribe: Unsubscribe | None = None

    async def open(self) -> None:
        """Take requests from the queue group from now on."""
        subject = self.binding.subject.wildcard
        self._unsubscribe = await self._runtime.connection.wire.subscribe(subject, self.arrive, QUEUE)

    @property
    def blocked(self) -> str:
        """Why no requests come here; empty while they do."""
        return "" if self._unsubscribe is not None else "not open yet"

    async def close(self) -> None:
        """Leave the queue group; returns once the requests that were on their way are here."""
        if self._unsubscribe is not None:
            await self._unsubscribe()

    def arrive(self, subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        """Take a request; called while the data that brought it is read."""
        if reply and not self._may(reply):
            self._answers.refuse(self.binding.function, reply)
            return
        now = clock()
        if self.waiting.admits(len(body), now):
            self.waiting.line.join(read(subject, reply, header, body, now))
        else:
            self.refuse(reply, "overloaded")

    def refuse(self, reply: bytes, why: NotStarted) -> None:
        """Answer that the handler has not begun."""
        self.stats.not_started[why] += 1
        if reply:
            self._answers.send(reply, b"", answered.REFUSED[why])

    def turn_away(self, request: Request, why: NotStarted) -> None:
        """Answer that the handler has not begun, to a request that has waited."""
        self.refuse(request.reply, why)

    # -- the slot ---------------------------------------------------------------------------------------

    async def _called(self, *arguments: Any) -> Any:
        return await self.calling(arguments)

    def bound(self, request: Request, context: Context[Any] | None) -> Sequence[Any]:
        """The arguments of the handler. Raises whatever decoding raises."""
        return self.calling.bind(request.subject, request.body, request.msgpack, context)

    async def store(self, request: Request, result: Any, staged: list[Staged] | None) -> Any:
        """Store the messages that the handler published, if the result can be sent; gives the result. Raises ServerError and ValueError."""
        if staged:
            encoded(request, result, self._runtime.connection.max_payload)
            await self._published.store(request, staged)
        return result

    def succeed(self, request: Request, result: Any, most: int) -> None:
        """Answer with a result; the server takes `most` bytes. Raises ValueError if it cannot be sent."""
        body, head = encoded(request, result, most)
        if request.reply:
            self._answers.send(request.reply, body, head, request.expires)

    def facts(self, request: Request) -> dict[str, Any]:
        """The facts of a handler's context; made when the handler asks for one."""
        return facts_of(request, self.binding, self._runtime)

    # -- failures ---------------------------------------------------------------------------------------

    def cut_off(self, request: Request) -> None:
        """Answer that the handler was cancelled because the process ends."""
        request.answered = True
        self._error(request, UNAVAILABLE, ENDS)
        self.reports.cut_off(request, ENDS)

    def fail(self, request: Request, outcome: Outcome) -> None:
        """Answer with an error, once."""
        if request.answered:
            self.reports.late_end(request)
            return
        request.answered = True
        answer = answered.answered(outcome)
        hidden = self.reports.hidden(request)
        self._error(request, answer.code, answered.one_line(hidden.hide(answer.text)))
        self.reports.failed(request, outcome, answer, clock() - request.started, hidden)

    def _error(self, request: Request, code: int, text: str) -> None:
        self.stats.error(code, text, request.started - request.arrived)
        if request.reply:
            self._answers.send(request.reply, b"", answered.headers(code, text), request.expires)

    def too_late(self, request: Request) -> None:
        """Answer for a handler that ignores its timeout, or that runs in a thread and cannot be cancelled."""
        self.fail(request, TimedOut(seconds := request.until - request.started))
        self.reports.held(seconds)
