"""Functions with `@route`: they run in this process, in slots like functions that answer over NATS, and by the same rules."""

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
from runner.gateway.httprequest import Http, HttpRequest, StoredOutput
from runner.gateway.streams import NO_WORD
from runner.pipeline.call import Calling
from runner.responses import Rendered, failure_event, rendered
from runner.runtime.blame import RaisedElsewhere
from runner.runtime.runtime import Runtime
from runner.services.channel import ENDS, facts_of
from runner.services.counts import Counts
from runner.services.published import Published
from runner.services.reports import Reports
from runner.services.waiting import Waiting
from runner.staged import Staged
from runner.targets import Target

clock = time.monotonic

GONE = 499
"""The status in log and metrics for a client that has gone before its response."""
AGAIN_SECONDS = 1.0
_WORDS: dict[NotStarted, str] = {
    "overloaded": "too many requests wait here; try again later",
    "draining": "the gateway ends; try again",
    "expired": "no function was free in time",
    "unknown": "there is no such function",
}


class HttpChannel:
    """The channel of one function with `@route`."""

    waiting: Waiting
    blocked = ""
    """Always empty: the function takes requests as soon as the gateway does."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._generates = binding.kind.endswith("generator")
        self._streams = self._generates and binding.output is None
        self.binding = binding
        self.stats = Counts()
        self.reports = Reports(runtime, binding)
        self.calling = (Streaming if self._streams else Calling)(runtime, binding)
        self.call = self.calling.handler if self.calling.awaited else self._called
        self._runtime = runtime
        self._published = Published(runtime, binding)
        body = binding.signature.body
        self.raw = body is not None and codec.is_raw(body.annotation)
        """Whether the handler gets the body's bytes, whatever its content type."""
        file = binding.file.removeprefix(f"{runtime.root}/")
        self._place = f"{file}:{binding.line} in {binding.label}"
        self.takes_body = body is not None

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
        """Let a request wait for a slot; the future gives an `HttpOutcome`.

        `msgpack`: whether the body is MessagePack, and whether the answer may be. `timeout` is that of the route in seconds, if it
        has one; for events it limits the wait for the first event.
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
        if self.waiting.admits(len(body), now):
            self.waiting.line.join(request)
        else:
            self.turn_away(request, "overloaded")
        assert request.future is not None
        return request.future

    def turn_away(self, request: HttpRequest, why: NotStarted) -> None:
        """Answer that the handler has not begun."""
        self.stats.not_started[why] += 1
        code = answered.TIMEOUT if why == "expired" else CODES[why]
        request.settle(Answered(code, _WORDS[why], AGAIN_SECONDS))

    # -- the slot ---------------------------------------------------------------------------------------

    def bound(self, request: HttpRequest, context: Context[Any] | None) -> Sequence[Any]:
        """The arguments of the handler, then its `Events` if it sends events. Raises whatever decoding raises."""
        if (output := self.binding.output) is not None:
            try:
                request.output = output.render(request.target.params)
            except ValueError as error:
                # The client must not see the subject.
                text = raised.message(error).removeprefix(f"subject {output.text!r}: ")
                raise codec.DecodeError(f"the path: {text}") from None
        found = self.calling.bind(request.target, request.body, request.msgpack, context)
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
            return await self.calling(arguments)
        *given, events = arguments
        token = sending.set(events)
        try:
            await self.calling(given)
        finally:
            sending.reset(token)
        return events

    async def store(self, request: HttpRequest, result: Any, staged: list[Staged] | None) -> Any:
        """Store the handler's messages, if the result can be sent; gives what to answer with. Raises ServerError and ValueError."""
        assert request.http is not None
        made, output = list(staged or ()), self.binding.output
        returned = output is not None and result is not None
        if output is not None and result is not None:
            made += [
                Staged(request.output, codec.encode(item))
                for item in (result if self._generates else [result])
            ]
        if output is None and not self._streams:
            result = self._rendered(request, result)  # a result that cannot be sent stores nothing
        if not made:
            return None if output is not None else result
        request.storing = True
        stored = await self._published.store(request, made, request.http.key.decode())
        request.storing = False
        if not returned or stored is None:
            return None if output is not None else result
        stream, ack = stored
        return StoredOutput(stream, ack.seq, ack.duplicate)

    def succeed(self, request: HttpRequest, result: Any, most: int) -> None:
        """Answer with a result. Raises ValueError if it cannot be sent."""
        if isinstance(result, Events) and self._streams:
            if not result.has_begun:
                request.settle(result)
            result.end()
        elif isinstance(result, (StoredOutput, Rendered)):
            request.settle(result)
        else:
            request.settle(self._rendered(request, result))

    def _rendered(self, request: HttpRequest, result: Any) -> Rendered:
        """The response. An error raised here names the function, because the traceback has no line of it."""
        try:
            return rendered(result, msgpack=request.takes_msgpack)
        except Exception as error:
            error.__cause__ = RaisedElsewhere("", self._place)
            raise

    def facts(self, request: HttpRequest) -> dict[str, Any]:
        """The facts of a handler's context; made when the handler asks for one."""
        request.header = request.whole()
        return {**facts_of(request, self.binding, self._runtime), "params": request.target.params}

    # -- failures ---------------------------------------------------------------------------------------

    def cut_off(self, request: HttpRequest) -> None:
        """Answer that the handler was cancelled because the gateway ends."""
        request.answered = True
        self.stats.error(UNAVAILABLE, ENDS, request.started - request.arrived)
        self._tell(request, Answered(UNAVAILABLE, "the gateway ends", AGAIN_SECONDS))
        self.reports.cut_off(request, ENDS)

    def too_late(self, request: HttpRequest) -> None:
        """Answer for a handler that ignores its timeout, or that runs in a thread and cannot be cancelled."""
        events: Events | None = request.events
        if events is not None and events.stopped:  # a thread learns of it at its next event
            self.fail(request, TimedOut(0.0))
        else:
            self.fail(request, TimedOut(seconds := request.until - request.started))
            self.reports.held(seconds)

    def fail(self, request: HttpRequest, outcome: Outcome) -> None:
        """Answer with an error, once."""
        events: Events | None = request.events
        gone = events is not None and events.stopped
        if request.answered and not gone:
            self.reports.late_end(request)
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
        hidden = self.reports.hidden(request)
        text = answered.one_line(hidden.hide(answer.text))
        self.stats.error(answer.code, text, request.started - request.arrived)
        self._tell(request, Answered(answer.code, text, answer.after))
        told = Answered(answer.code, answered.answered(outcome).text, answer.after)
        self.reports.failed(request, outcome, told, clock() - request.started, hidden)

    def _tell(self, request: HttpRequest, answer: Answered) -> None:
        events: Events | None = request.events
        if events is not None and events.has_begun:
            events.end(failure_event(problem(answer.code, answer.text)))
        else:
            request.settle(answer)


def _is_gone(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and isinstance(outcome.error, ClientGone)
