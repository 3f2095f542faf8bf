"""The span of one try of a request."""

from __future__ import annotations

from typing import cast

from msgspec import Struct
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from runner.core import traceparent
from runner.telemetry import failure
from runner.telemetry.attempt import send_attributes
from runner.telemetry.keys import CURRENT, SERVICE, SPAN
from runner.telemetry.propagation import unsampled
from runner.telemetry.sdkspan import AnySpan
from runner.telemetry.source import Attributes, SpanSource


class Asker(Struct, frozen=True):
    """The context in which a request was made: its tries belong there, even if they are sent later from elsewhere."""

    context: Context
    sent_in: bytes | None
    """The headers of the message whose handler asks; None outside of functions."""


def here(sent_in: bytes | None) -> Asker:
    """The asker with the current context."""
    return Asker(CURRENT.get(), sent_in)


class TrySpan:
    """The span of a try on its way; `end` is called once."""

    __slots__ = ("_span",)

    def __init__(self, span: AnySpan) -> None:
        self._span = span

    def end(self, error: BaseException | str | None = None, code: int = 0) -> None:
        """End the span: the try was answered, or failed with `error`; `code` is the error code of the instance."""
        if code:
            self._span.note("jetrunner.code", code)
        if error is not None:
            failure.record(self._span, error)
        self._span.finish()


def ask(
    source: SpanSource, asker: Asker, subject: bytes, pattern: str, instance: str, number: int
) -> tuple[TrySpan | None, bytes]:
    """Start the span of a try, None if it is not traced; and give the header lines that carry the trace on.

    The span belongs to the asker's current trace. Without one, outside of functions, a new trace begins if the gate admits it. A
    handler whose message is not traced asks in the trace of that message, not sampled.
    """
    if source.services is None:
        return None, b""
    context, sent_in = asker.context, asker.sent_in
    current = cast("Span | None", context.get(SPAN))
    root = current is None or not current.get_span_context().is_valid
    if root:
        if sent_in is not None:
            return None, traceparent.unsampled_line(sent_in) or b"traceparent: %b\r\n" % unsampled().encode()
        if not source.gate.admit(None):
            return None, b"traceparent: %b\r\n" % unsampled().encode()
    service = cast("str", context.get(SERVICE, source.project))
    text = subject.decode(errors="replace")
    attributes: Attributes = {
        **send_attributes(text, pattern),
        **source.server,
        "messaging.operation.name": "request",
        "jetrunner.try": number + 1,
    }
    if instance:
        attributes["jetrunner.instance"] = instance
    name = failure.clean(f"request {pattern or text}")
    span = source.start(service, name, SpanKind.CLIENT, context, attributes, admitted=root)
    carried: Context = set_span_in_context(span.current, context)
    lines = "".join(f"{name}: {value}\r\n" for name, value in source.propagation.inject(carried))
    return TrySpan(span), lines.encode("utf-8", "surrogateescape")
