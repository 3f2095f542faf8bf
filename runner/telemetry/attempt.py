"""The spans of one attempt at a message, and of each message that it sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from typing import TypeAlias, cast

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from runner.core import otlp, traceparent
from runner.telemetry import failure
from runner.telemetry.keys import CURRENT, HIDE, MESSAGE, SERVICE, SPAN
from runner.telemetry.ownspan import OwnSpan
from runner.telemetry.propagation import TraceHeaders
from runner.telemetry.sdkspan import AnySpan
from runner.telemetry.source import Attributes, SpanSource

ORIGIN_TRACE = "Jetrunner-Origin-Trace"
"""The header with the sender's traceparent: the message starts a trace of its own, with a link to that one."""
FAR = 300.0
"""A message with a longer delay, in seconds, starts a trace of its own: a trace with an empty stretch of hours cannot be read."""
OUTPUT_SPANS = 64
"""Most outputs of one attempt that get a span each; later ones carry the attempt's own context."""
MakeHide: TypeAlias = Callable[[bytes | None, bytes], failure.Hide]
"""Makes a `Hide`, from the headers and the body of a message: it removes the message's hidden values from texts."""


LINKED_PARTS = 128
"""Most parts of an event that get a link each in the span of the function that joins them."""


class Common:
    """The facts that all attempts of a function share."""

    __slots__ = ("function", "hiding", "source")

    def __init__(self, source: SpanSource, function: str, hiding: MakeHide | None) -> None:
        self.source = source
        self.function = function
        self.hiding = hiding


class SentSpan:
    """A message on its way to a stream; send it with `headers`, then call `end` once."""

    __slots__ = ("_placed", "_span", "headers")

    def __init__(self, span: AnySpan | None, headers: TraceHeaders, *, placed: bool = True) -> None:
        """`placed`: the span already names the stream."""
        self._span = span
        self._placed = placed
        self.headers = headers
        """The headers by which the message's receivers continue the trace."""

    def end(self, *, stream: str = "", sequence: int = 0, error: BaseException | str | None = None) -> None:
        """End the span: the message was stored in `stream` at `sequence`, or not stored because of `error`."""
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
    """The span of one attempt; exactly one of the `end_` methods is called, when the attempt is settled."""

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
        """`parent` is the context that came with the message; None if the message has only a `traceparent`."""
        self._delivery = delivery
        self._span = span
        self._of = of
        self._parent = parent
        self._header = header
        self._body = body

    @property
    def trace_id(self) -> str:
        """The trace's id in 32 hex digits."""
        return self.ids[0].hex()

    @property
    def ids(self) -> tuple[bytes, bytes]:
        """The ids of the trace and of the span."""
        span = self._span
        if isinstance(span, OwnSpan):
            return span.trace_id, span.span_id
        context = span.get_span_context()
        return context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")

    @property
    def context(self) -> SpanContext:
        """The span context, so that others can link to it."""
        return self._span.get_span_context()

    def link(self, to: SpanContext, names: Mapping[str, otlp.Value], encoded: bytes) -> None:
        """Link to the span of the call that handles its message; `encoded` holds that link and the attributes."""
        self._span.link(to, names, encoded)

    def join(self, blocks: Sequence[bytes | None], own: bytes | None) -> None:
        """Note that it works on several messages, and link to the spans that sent them, at most 128; `own` is its parent's header."""
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
        """False if an explicit OTEL_TRACES_SAMPLER decided against this trace; every method still works."""
        return self._span.sampled

    def hide_with(self, hide: failure.Hide | None) -> None:
        """Set the function that removes the message's hidden values from texts."""
        self._hide = hide

    def activate(self) -> None:
        """Make it the current span of this task, and of threads and tasks started in it, so that user spans nest in it."""
        self._active = CURRENT.set(self._context())

    def deactivate(self) -> None:
        """Undo `activate`. In any other task than the one that activated, this does nothing."""
        token, self._active = self._active, None
        if token is not None:
            try:
                CURRENT.reset(token)
            except ValueError:  # the token is of another context, which ends with its task
                return

    def leave(self, _error: BaseException | str | None = None) -> None:
        """Undo `activate` at the end of a call, like a batch's span; how the attempt ended is told later."""
        self.deactivate()

    def inject(self) -> TraceHeaders:
        """Headers that continue the trace from this attempt."""
        return self._carried(self._span)

    def output(self, subject: str, stream: str = "", *, template: str = "", delay: float = 0.0) -> SentSpan:
        """Start the span of a message that this attempt sends, `delay` seconds from now if it is scheduled."""
        self._outputs += 1
        if self._outputs > OUTPUT_SPANS:
            return SentSpan(None, self._onward(self._span, delay))
        return self._send(subject, stream, template, delay)

    def dead_letter(self, subject: str) -> SentSpan:
        """Start the span of the dead letter, which is sent before `end_dead_letter`."""
        return self._send(subject, "DEADLETTERS", "", 0.0)

    def end_ack(self) -> None:
        """End it: the attempt succeeded, and the message is acknowledged."""
        self._span.finish_acked()

    def end_retry(
        self, error: BaseException | str, delay: float, next_attempt: int, hide: failure.Hide = str
    ) -> None:
        """End it: the attempt failed, and the message comes again after `delay` seconds."""
        failure.record(self._span, error, hide=hide)
        self._span.note("jetrunner.retry.delay", float(delay))
        self._span.note("jetrunner.retry.attempt", next_attempt)
        self._end("retry", "message.nak", {"delay": delay, "next_attempt": next_attempt})

    def end_dead_letter(
        self, reason: str, error: BaseException | str | None = None, hide: failure.Hide = str
    ) -> None:
        """End it: the message was given up. Without an exception the reason is the error's type."""
        failure.record(self._span, error or reason, reason, hide)
        self._end("dead_letter", "message.term", {"reason": reason})

    def _end(self, outcome: str, event: str, facts: dict[str, str | int | float]) -> None:
        self._span.note("jetrunner.outcome", outcome)
        self._span.happened(event, facts)
        self._span.finish()

    def _context(self) -> Context:
        """The context while the handler runs; not made by `set_value`, which copies the whole context each time."""
        of = self._of
        context: dict[str, object] = {SPAN: self._span.current, SERVICE: of.function}
        if self._delivery is not None:
            context[MESSAGE] = of.function, self._delivery
        if self._hide is not None or of.hiding is not None:
            context[HIDE] = self.hide
        # `Context` is a dict that refuses changes, and a plain dict is cheaper to make.
        return cast("Context", context) if self._parent is None else Context({**self._parent, **context})

    def hide(self, text: str) -> str:
        """The text without the message's hidden values."""
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

    def _carried(self, span: AnySpan) -> TraceHeaders:
        if self._parent is None and isinstance(span, OwnSpan):
            return [("traceparent", span.traceparent)]
        return self._of.source.propagation.inject(Context({**self._context(), SPAN: span.current}))

    def _onward(self, span: AnySpan, delay: float) -> TraceHeaders:
        headers = self._carried(span)
        return as_origin(headers) if delay > FAR else headers


def send_attributes(subject: str, template: str, stream: str = "") -> Attributes:
    """Attributes of a span that sends a message."""
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


def origin_of(headers: TraceHeaders) -> traceparent.TraceParent | None:
    """The trace that a message comes from, if the message starts a trace of its own."""
    for name, value in headers:
        if name.lower() == ORIGIN_TRACE.lower():
            return traceparent.parse(value)
    return None


def as_origin(headers: TraceHeaders) -> TraceHeaders:
    """The same headers, for a message that starts a trace of its own: the sender's trace becomes its origin."""
    kept = [
        pair for pair in headers if pair[0].lower() not in ("traceparent", "tracestate", ORIGIN_TRACE.lower())
    ]
    for name in ("traceparent", ORIGIN_TRACE.lower()):
        for given, value in headers:
            if given.lower() == name and traceparent.parse(value) is not None:
                return [*kept, (ORIGIN_TRACE, value)]
    return kept
