"""Functions with `@route`: they run in this process, in slots as those that answer over NATS, and by the same rules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from math import inf
from typing import Any

from runner import codec
from runner.bindings import Binding
from runner.context import Context
from runner.core import answered, raised
from runner.core.answered import Answered
from runner.core.http.problem import problem
from runner.core.service import CODES, UNAVAILABLE, NotStarted
from runner.core.settlement import Failed, Outcome, TimedOut
from runner.gateway.events import ClientGone, Events, Streaming, sending
from runner.gateway.httprequest import Http, HttpRequest, Stored
from runner.gateway.streams import NO_WORD
from runner.pipeline.call import Calling
from runner.responses import Rendered, failure_event, rendered
from runner.runtime.blame import Elsewhere
from runner.runtime.runtime import Runtime
from runner.services.answers import Answers
from runner.services.request import Request
from runner.services.responder import ENDS, Responder
from runner.services.waiting import Waiting
from runner.staged import Staged
from runner.targets import Target

clock = time.monotonic

GONE = 499
"""What the log and metrics call a response that its client has not waited for."""
AGAIN_SECONDS = 1.0
_WORDS: dict[NotStarted, str] = {
    "overloaded": "too many requests wait here; try again later",
    "draining": "the gateway ends; try again",
    "expired": "no function was free in time",
    "unknown": "there is no such function",
}


class Queued(Waiting):
    """The line before the slots of a function with `@route`."""

    def enter(self, request: HttpRequest) -> None:
        """Take a request, or refuse it at once."""
        now = request.arrived
        if len(self.deliveries) >= self.room.places:
            self.room.look(now, self._counts.handled)
        full = len(self.deliveries) >= self.room.places
        size = self.bytes + len(request.body)
        if full or (size > self._most_bytes and self.deliveries):
            self.turn_away(request, "overloaded")
            return
        self.bytes = size
        self.join(request)

    def turn_away(self, request: Request, why: NotStarted) -> None:
        """Answer that the handler has not begun."""
        assert isinstance(request, HttpRequest)
        self._counts.not_started[why] += 1
        code = answered.TIMEOUT if why == "expired" else CODES[why]
        request.settle(Answered(code, _WORDS[why], AGAIN_SECONDS))


class HttpResponder(Responder):
    """All slots of one function."""

    line: Queued

    def __init__(self, runtime: Runtime, binding: Binding, answers: Answers) -> None:
        self._streams = binding.kind.endswith("generator") and binding.output is None
        super().__init__(runtime, binding, answers)
        self._generates = binding.kind.endswith("generator")
        body = binding.signature.body
        self.raw = body is not None and codec.is_raw(body.annotation)
        """Whether its body is given as it is, whatever its kind."""
        file = binding.file.removeprefix(f"{runtime.root}/")
        self._place = f"{file}:{binding.line} in {binding.label}"
        self.takes_body = body is not None

    def _make_calling(self) -> Calling:
        return (Streaming if self._streams else Calling)(self._runtime, self.binding)

    def _make_line(self) -> Waiting:
        return Queued(self._runtime, self._open_slot, self.binding, self._answers, self.stats)

    async def open(self) -> None:
        """Requests come over HTTP."""

    @property
    def blocked(self) -> str:
        """It takes requests as soon as the gateway does."""
        return ""

    async def close(self) -> None:
        """The gateway takes no more."""

    def ask(
        self,
        http: Http,
        params: dict[str, str],
        body: bytes,
        *,
        msgpack: tuple[bool, bool],
        traces: bytes,
        timeout: float | None,
    ) -> asyncio.Future[Any]:
        """Let a request wait for a slot; what it gives is an `Outcome`. `msgpack`: whether its body is, and whether the answer may be.

        `timeout` is that of the route, in seconds, where it has one; of events it bounds the wait for the first.
        """
        now = clock()
        path = http.path.decode("ascii", "replace")
        request = HttpRequest(
            f"{http.method} {path}".encode(),
            b"http",
            b"NATS/1.0\r\n%b\r\n" % traces if traces else None,
            body,
            now,
            inf if timeout is None else now + timeout,
            msgpack=msgpack[0],
            http=http,
            target=Target(params, http.query),
            traces=traces,
            takes_msgpack=msgpack[1],
            future=asyncio.get_running_loop().create_future(),
        )
        self.line.enter(request)
        assert request.future is not None
        return request.future

    # -- the slot ---------------------------------------------------------------------------------------

    def _bound(self, request: Request, context: Context[Any] | None) -> Sequence[Any]:
        assert isinstance(request, HttpRequest)
        if (output := self.binding.output) is not None:
            try:
                request.output = output.render(request.target.params)
            except ValueError as error:
                # The subject itself is of the inside.
                text = raised.message(error).removeprefix(f"subject {output.text!r}: ")
                raise codec.DecodeError(f"the path: {text}") from None
        found = self._calling.bind(request.target, request.body, request.msgpack, context)
        if not self._streams:
            return found

        def extend() -> None:
            request.until = clock() + self.binding.timeout

        def cut() -> None:
            request.until = 0.0

        request.events = Events(request.settle, extend, cut)
        return [*found, request.events]

    async def _called(self, *arguments: Any) -> Any:
        if not self._streams:
            return await super()._called(*arguments)
        *given, events = arguments
        token = sending.set(events)
        try:
            await self._calling(given)
        finally:
            sending.reset(token)
        return events

    async def _store(self, request: Request, result: Any, staged: list[Staged] | None) -> Any:
        assert isinstance(request, HttpRequest)
        assert request.http is not None
        made, output = list(staged or ()), self.binding.output
        returned = output is not None and result is not None
        if output is not None and result is not None:
            made += [
                Staged(request.output, codec.encode(item))
                for item in (result if self._generates else [result])
            ]
        if output is None and not self._streams:
            result = self._rendered(request, result)  # what cannot be sent stores nothing
        if not made:
            return None if output is not None else result
        request.storing = True
        stored = await self._published.store(request, made, request.http.key.decode())
        request.storing = False
        if not returned or stored is None:
            return None if output is not None else result
        stream, ack = stored
        return Stored(stream, ack.seq, ack.duplicate)

    def _succeed(self, request: Request, result: Any, most: int) -> None:
        assert isinstance(request, HttpRequest)
        if isinstance(result, Events) and self._streams:
            if not result.has_begun:
                request.settle(result)
            result.end()
        elif isinstance(result, (Stored, Rendered)):
            request.settle(result)
        else:
            request.settle(self._rendered(request, result))

    def _rendered(self, request: HttpRequest, result: Any) -> Rendered:
        """The response. What is raised names the function, as no line of its own is in the traceback."""
        try:
            return rendered(result, msgpack=request.takes_msgpack)
        except Exception as error:
            error.__cause__ = Elsewhere("", self._place)
            raise

    def _facts(self, request: Request) -> dict[str, Any]:
        assert isinstance(request, HttpRequest)
        request.header = request.whole()
        return {**super()._facts(request), "params": request.target.params}

    # -- what did not succeed ---------------------------------------------------------------------------

    def _cut_off(self, request: Request) -> None:
        assert isinstance(request, HttpRequest)
        request.answered = True
        self.stats.error(UNAVAILABLE, ENDS, request.started - request.arrived)
        self._tell(request, Answered(UNAVAILABLE, "the gateway ends", AGAIN_SECONDS))
        self._reports.cut_off(request, ENDS)

    def _too_late(self, request: Request) -> None:
        assert isinstance(request, HttpRequest)
        events: Events | None = request.events
        if events is not None and events.stopped:  # a thread, which hears of it with its next event
            self._fail(request, TimedOut(0.0))
        else:
            super()._too_late(request)

    def _fail(self, request: Request, outcome: Outcome) -> None:
        assert isinstance(request, HttpRequest)
        events: Events | None = request.events
        gone = events is not None and events.stopped
        if request.answered and not gone:
            self._reports.late_end(request)
            return
        request.answered = True
        if gone and (isinstance(outcome, TimedOut) or _is_gone(outcome)):
            self.stats.error(GONE, "the client has gone", request.started - request.arrived)
            if request.span is not None:
                request.span.end_refused(GONE, "client_gone")
            return
        request.header = request.whole()
        answer = answered.responded(outcome)
        if answer.code == answered.TIMEOUT and request.storing:
            answer = Answered(UNAVAILABLE, NO_WORD, AGAIN_SECONDS)
        hidden = self._reports.hidden(request)
        text = answered.one_line(hidden.hide(answer.text))
        self.stats.error(answer.code, text, request.started - request.arrived)
        self._tell(request, Answered(answer.code, text, answer.after))
        told = Answered(answer.code, answered.answered(outcome).text, answer.after)
        self._reports.failed(request, outcome, told, clock() - request.started, hidden)

    def _tell(self, request: HttpRequest, answer: Answered) -> None:
        events: Events | None = request.events
        if events is not None and events.has_begun:
            events.end(failure_event(problem(answer.code, answer.text)))
        else:
            request.settle(answer)


def _is_gone(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and isinstance(outcome.error, ClientGone)
