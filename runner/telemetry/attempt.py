"""The span of one attempt at a message, and of each message it sends."""

from __future__ import annotations

from contextvars import Token

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer, format_trace_id, set_span_in_context

from runner.core import traceparent
from runner.telemetry import failure
from runner.telemetry.propagation import Headers, Propagation

ORIGIN_TRACE = "Jetrunner-Origin-Trace"
"""Holds a traceparent: the message starts a trace of its own, with a link to that one."""
FAR = 300.0
"""Seconds of delay from which a message starts a trace of its own: one with hours of nothing in it cannot be read."""
OUTPUT_SPANS = 64
"""Outputs of one attempt with a span each; later ones carry the attempt's own context."""
# Which service the spans of user code inside an attempt belong to.
SERVICE = contexts.create_key("jetrunner-service")
# What takes out of the texts of user code's spans what is not shown of the message.
HIDE = contexts.create_key("jetrunner-hide")
# Set in the context of a span the gate has let through; the SDK's sampler must not decide again.
ADMITTED = contexts.create_key("jetrunner-admitted")


class SentSpan:
    """A message on its way to a stream; send it with `headers`, then call `end` once."""

    __slots__ = ("_span", "headers")

    def __init__(self, span: Span | None, headers: Headers) -> None:
        self._span = span
        self.headers = headers
        """What the message carries so that its receivers continue the trace."""

    def end(self, *, stream: str = "", sequence: int = 0, error: BaseException | str | None = None) -> None:
        """Stored in `stream` at `sequence`, or not stored because of `error`."""
        if self._span is None:
            return
        if sequence:
            self._span.set_attribute("messaging.message.id", f"{stream}:{sequence}")
        if error is not None:
            failure.record(self._span, error)
        self._span.end()


class AttemptSpan:
    """One attempt; exactly one of the `end_` methods is called, after the settlement is sent."""

    __slots__ = ("_active", "_context", "_outputs", "_propagation", "_span", "_tracer")

    def __init__(
        self,
        span: Span,
        parent: Context,
        tracer: Tracer,
        service: str,
        propagation: Propagation,
        hide: failure.Hide | None = None,
    ) -> None:
        self._span = span
        context = contexts.set_value(SERVICE, service, set_span_in_context(span, parent))
        self._context = context if hide is None else contexts.set_value(HIDE, hide, context)
        self._tracer = tracer
        self._propagation = propagation
        self._outputs = 0
        self._active: Token[Context] | None = None

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return format_trace_id(self._span.get_span_context().trace_id)

    @property
    def sampled(self) -> bool:
        """False when an explicit OTEL_TRACES_SAMPLER decided against this trace; every method still works."""
        return self._span.get_span_context().trace_flags.sampled

    def activate(self) -> None:
        """Make it the current span of this task, and of the threads and tasks started in it: user spans nest."""
        self._active = contexts.attach(self._context)

    def deactivate(self) -> None:
        """Undo `activate`; called elsewhere than in the task that activated, it does nothing there, and no harm."""
        token, self._active = self._active, None
        if token is not None:
            try:
                token.var.reset(token)
            except ValueError:  # another context's token; that context goes with its task
                return

    def inject(self) -> Headers:
        """Headers that continue the trace from this attempt itself."""
        return self._propagation.inject(self._context)

    def output(self, subject: str, stream: str = "", *, template: str = "", delay: float = 0.0) -> SentSpan:
        """Start the span of a message this attempt sends, `delay` seconds from now when it is scheduled."""
        self._outputs += 1
        if self._outputs > OUTPUT_SPANS:
            return SentSpan(None, self._onward(self._context, delay))
        return self._send(subject, stream, template, delay)

    def dead_letter(self, subject: str) -> SentSpan:
        """Start the span of the dead letter, sent before `end_dead_letter`."""
        return self._send(subject, "DEADLETTERS", "", 0.0)

    def end_ack(self) -> None:
        """It succeeded: the message is acknowledged."""
        self._end("ack", "message.ack", {})

    def end_retry(
        self, error: BaseException | str, delay: float, next_attempt: int, hide: failure.Hide = str
    ) -> None:
        """It failed, and the message comes again after `delay` seconds."""
        failure.record(self._span, error, hide=hide)
        self._end("retry", "message.nak", {"delay": delay, "next_attempt": next_attempt})

    def end_dead_letter(
        self, reason: str, error: BaseException | str | None = None, hide: failure.Hide = str
    ) -> None:
        """The message was given up; without an exception the reason is the error's type."""
        failure.record(self._span, error or reason, reason, hide)
        self._end("dead_letter", "message.term", {"reason": reason})

    def _end(self, outcome: str, event: str, facts: dict[str, str | int | float]) -> None:
        self._span.set_attribute("jetrunner.outcome", outcome)
        self._span.add_event(event, facts)
        self._span.end()

    def _send(self, subject: str, stream: str, template: str, delay: float) -> SentSpan:
        span = self._tracer.start_span(
            failure.clean(f"send {template or subject}"),
            self._context,
            SpanKind.PRODUCER,
            send_attributes(subject, template, stream),
        )
        if delay:
            span.set_attribute("jetrunner.delay", delay)
        return SentSpan(span, self._onward(set_span_in_context(span, self._context), delay))

    def _onward(self, context: Context, delay: float) -> Headers:
        headers = self._propagation.inject(context)
        return as_origin(headers) if delay > FAR else headers


def send_attributes(subject: str, template: str, stream: str = "") -> dict[str, str]:
    """Attributes of a span that sends."""
    attributes = {
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
