"""The span of one attempt at a message, and of each message it sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from typing import TypeAlias, cast

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, format_trace_id

from runner.core import otlp, traceparent
from runner.telemetry import failure
from runner.telemetry.keys import CURRENT, HIDE, MESSAGE, SERVICE, SPAN
from runner.telemetry.ownspan import OwnSpan
from runner.telemetry.propagation import Headers
from runner.telemetry.sdkspan import AnySpan
from runner.telemetry.source import Attributes, SpanSource

ORIGIN_TRACE = "Jetrunner-Origin-Trace"
"""Holds a traceparent: the message starts a trace of its own, with a link to that one."""
FAR = 300.0
"""Seconds of delay from which a message starts a trace of its own: one with hours of nothing in it cannot be read."""
OUTPUT_SPANS = 64
"""Outputs of one attempt with a span each; later ones carry the attempt's own context."""
Hiding: TypeAlias = Callable[[bytes | None, bytes], failure.Hide]
"""Makes what takes out of texts what is not shown of the message with these headers and this body."""


LINKED_PARTS = 128
"""Parts of an event that have a link each in the span of its function."""


class Common:
    """What all attempts of a function have in common."""

    __slots__ = ("function", "hiding", "source")

    def __init__(self, source: SpanSource, function: str, hiding: Hiding | None) -> None:
        self.source = source
        self.function = function
        self.hiding = hiding


class SentSpan:
    """A message on its way to a stream; send it with `headers`, then call `end` once."""

    __slots__ = ("_placed", "_span", "headers")

    def __init__(self, span: AnySpan | None, headers: Headers, *, placed: bool = True) -> None:
        """`placed`: the span says already which stream it is for."""
        self._span = span
        self._placed = placed
        self.headers = headers
        """What the message carries so that its receivers continue the trace."""

    def end(self, *, stream: str = "", sequence: int = 0, error: BaseException | str | None = None) -> None:
        """Stored in `stream` at `sequence`, or not stored because of `error`."""
        if self._span is None:
            return
        if stream and not self._placed:
            self._span.note("jetrunner.stream", stream)
        if sequence:
            self._span.note("messaging.message.id", f"{stream}:{sequence}")
        if error is not None:
            failure.record(self._span, error)
        self._span.finish()


class AttemptSpan:
    """One attempt; exactly one of the `end_` methods is called, when it is settled."""

    _outputs = 0
    _active: Token[Context] | None = None
    _hide: failure.Hide | None = None

    def __init__(
        self,
        span: AnySpan,
        of: Common,
        parent: Context | None,
        header: bytes | None = None,
        body: bytes = b"",
        delivery: object = None,
    ) -> None:
        """`parent` is what came with the message, None where that is no more than a `traceparent`."""
        self._delivery = delivery
        self._span = span
        self._of = of
        self._parent = parent
        self._header = header
        self._body = body

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return format_trace_id(self._span.get_span_context().trace_id)

    @property
    def ids(self) -> tuple[bytes, bytes]:
        """Those of its trace, and its own."""
        span = self._span
        if isinstance(span, OwnSpan):
            return span.trace_id, span.span_id
        context = span.get_span_context()
        return context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")

    @property
    def context(self) -> SpanContext:
        """The same for others to link to."""
        return self._span.get_span_context()

    def link(self, to: SpanContext, names: Mapping[str, otlp.Value], encoded: bytes) -> None:
        """Link to the span of the call that its message is in; `encoded` are that link and the attributes."""
        self._span.link(to, names, encoded)

    def join(self, blocks: Sequence[bytes | None], own: bytes | None) -> None:
        """Say that it works on several messages, and link to the spans that sent them, at most 128; `own` is where its parent stands."""
        count: dict[str, otlp.Value] = {"messaging.batch.message_count": len(blocks)}
        self._span.note("messaging.batch.message_count", len(blocks))
        sent = dict.fromkeys(traceparent.sent_in(block) for block in blocks)
        parent = traceparent.sent_in(own)
        for other in [each for each in sent if each is not None and each != parent][:LINKED_PARTS]:
            trace_id, span_id = bytes.fromhex(other.trace_id), bytes.fromhex(other.span_id)
            to = SpanContext(int(other.trace_id, 16), int(other.span_id, 16), is_remote=True)
            self._span.link(to, count, otlp.link(trace_id, span_id))

    @property
    def sampled(self) -> bool:
        """False when an explicit OTEL_TRACES_SAMPLER decided against this trace; every method still works."""
        return self._span.get_span_context().trace_flags.sampled

    def hide_with(self, hide: failure.Hide | None) -> None:
        """Say what takes out of texts what is not shown of the message."""
        self._hide = hide

    def activate(self) -> None:
        """Make it the current span of this task, and of the threads and tasks started in it: user spans nest."""
        self._active = CURRENT.set(self._context())

    def deactivate(self) -> None:
        """Undo `activate`; called elsewhere than in the task that activated, it does nothing there, and no harm."""
        token, self._active = self._active, None
        if token is not None:
            try:
                CURRENT.reset(token)
            except ValueError:  # another context's token; that context goes with its task
                return

    def leave(self, _error: BaseException | str | None = None) -> None:
        """The same at the end of a call, as the span of one with many messages: what it ended with is told later."""
        self.deactivate()

    def inject(self) -> Headers:
        """Headers that continue the trace from this attempt itself."""
        return self._carried(self._span)

    def output(self, subject: str, stream: str = "", *, template: str = "", delay: float = 0.0) -> SentSpan:
        """Start the span of a message this attempt sends, `delay` seconds from now when it is scheduled."""
        self._outputs += 1
        if self._outputs > OUTPUT_SPANS:
            return SentSpan(None, self._onward(self._span, delay))
        return self._send(subject, stream, template, delay)

    def dead_letter(self, subject: str) -> SentSpan:
        """Start the span of the dead letter, sent before `end_dead_letter`."""
        return self._send(subject, "DEADLETTERS", "", 0.0)

    def end_ack(self) -> None:
        """It succeeded: the message is acknowledged."""
        self._span.finish_acked()

    def end_retry(
        self, error: BaseException | str, delay: float, next_attempt: int, hide: failure.Hide = str
    ) -> None:
        """It failed, and the message comes again after `delay` seconds."""
        failure.record(self._span, error, hide=hide)
        self._span.note("jetrunner.retry.delay", float(delay))
        self._span.note("jetrunner.retry.attempt", next_attempt)
        self._end("retry", "message.nak", {"delay": delay, "next_attempt": next_attempt})

    def end_dead_letter(
        self, reason: str, error: BaseException | str | None = None, hide: failure.Hide = str
    ) -> None:
        """The message was given up; without an exception the reason is the error's type."""
        failure.record(self._span, error or reason, reason, hide)
        self._end("dead_letter", "message.term", {"reason": reason})

    def _end(self, outcome: str, event: str, facts: dict[str, str | int | float]) -> None:
        self._span.note("jetrunner.outcome", outcome)
        self._span.happened(event, facts)
        self._span.finish()

    def _context(self) -> Context:
        """What is current while the handler runs; not made by `set_value`, which copies all each time."""
        of = self._of
        context: dict[str, object] = {SPAN: self._span.current, SERVICE: of.function}
        if self._delivery is not None:
            context[MESSAGE] = of.function, self._delivery
        if self._hide is not None or of.hiding is not None:
            context[HIDE] = self.hide
        # A context is a dict that refuses to be changed, and costs more for it.
        return cast("Context", context) if self._parent is None else Context({**self._parent, **context})

    def hide(self, text: str) -> str:
        """The text without what is not shown of the message."""
        if self._hide is None:
            hiding = self._of.hiding
            self._hide = str if hiding is None else hiding(self._header, self._body)
        return self._hide(text)

    def _send(self, subject: str, stream: str, template: str, delay: float) -> SentSpan:
        attributes = {**send_attributes(subject, template, stream), **self._of.source.server}
        if delay:
            attributes["jetrunner.delay"] = delay
        name = failure.clean(f"send {template or subject}")
        span = self._of.source.child(self._of.function, name, self._span, self._context, attributes)
        return SentSpan(span, self._onward(span, delay), placed=bool(stream))

    def _carried(self, span: AnySpan) -> Headers:
        if self._parent is None and isinstance(span, OwnSpan):
            return [("traceparent", span.traceparent)]
        return self._of.source.propagation.inject(Context({**self._context(), SPAN: span.current}))

    def _onward(self, span: AnySpan, delay: float) -> Headers:
        headers = self._carried(span)
        return as_origin(headers) if delay > FAR else headers


def send_attributes(subject: str, template: str, stream: str = "") -> Attributes:
    """Attributes of a span that sends."""
    attributes: Attributes = {
        "messaging.system": "nats",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": failure.clean(subject),
    }
    if template and template != subject:
        attributes["messaging.destination.template"] = template
    if stream:
        attributes["jetrunner.stream"] = stream
    return attributes


def origin_of(headers: Headers) -> traceparent.TraceParent | None:
    """The trace a message comes from that starts one of its own."""
    for name, value in headers:
        if name.lower() == ORIGIN_TRACE.lower():
            return traceparent.parse(value)
    return None


def as_origin(headers: Headers) -> Headers:
    """The same headers, for a message that starts a trace of its own: its sender's becomes the origin."""
    kept = [
        pair for pair in headers if pair[0].lower() not in ("traceparent", "tracestate", ORIGIN_TRACE.lower())
    ]
    for name in ("traceparent", ORIGIN_TRACE.lower()):
        for given, value in headers:
            if given.lower() == name and traceparent.parse(value) is not None:
                return [*kept, (ORIGIN_TRACE, value)]
    return kept
