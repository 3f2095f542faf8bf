"""The span of a message sent from outside a function: published, or sent back from the dead letters."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, format_trace_id, set_span_in_context

from runner.telemetry import failure
from runner.telemetry.attempt import as_origin, origin_of, send_attributes
from runner.telemetry.propagation import TraceHeaders, unsampled
from runner.telemetry.sdkspan import AnySpan
from runner.telemetry.source import Attributes, SpanSource


class PublishSpan:
    """The span of a message on its way, which is sent with `headers`. The span ends with its `with` block."""

    __slots__ = ("_span", "headers", "trace_id")

    def __init__(self, span: AnySpan | None, headers: TraceHeaders) -> None:
        self._span = span if span is not None and span.recording else None
        self.headers = headers
        """The headers by which the message's receivers continue the trace."""
        self.trace_id = "" if self._span is None else format_trace_id(self._span.get_span_context().trace_id)
        """The trace's id in 32 hex digits; empty if the message is not traced."""

    def stored(self, stream: str, sequence: int) -> None:
        """Note the message's place in its stream."""
        if self._span is not None:
            self._span.note("messaging.message.id", f"{stream}:{sequence}")

    @contextmanager
    def ending(self) -> Iterator[PublishSpan]:
        """End the span with the block; if an exception leaves the block, the span fails."""
        if self._span is None:
            yield self
            return
        try:
            yield self
        except BaseException as error:
            failure.record(self._span, error)
            raise
        finally:
            self._span.finish()


def publish(
    source: SpanSource, subject: str, template: str, headers: Iterable[tuple[str, str]]
) -> PublishSpan:
    """Start the span of a published message: in the trace of `headers`, else the current one, else a new one if the gate admits it."""
    context = source.propagation.extract(list(headers))
    if not _holds_span(context):
        context = contexts.get_current()
    root = not _holds_span(context)
    if source.services is None:
        return PublishSpan(None, [])
    if root and not _admitted(source):
        # Without this header, each function that gets the message would decide again, in the middle of the trace.
        return PublishSpan(None, [("traceparent", unsampled())])
    attributes: Attributes = {**send_attributes(subject, template), **source.server}
    name = failure.clean(f"send {template or subject}")
    span = source.start(source.project, name, SpanKind.PRODUCER, context, attributes, admitted=root)
    return PublishSpan(span, source.propagation.inject(set_span_in_context(span.current, context)))


def redrive(source: SpanSource, subject: str, headers: Iterable[tuple[str, str]]) -> PublishSpan:
    """Start the span of a message that is sent back: a new trace, linked to the one in which the message was given up.

    The span's headers are all headers of the message.
    """
    carried = as_origin(list(headers))
    if source.services is None or not _admitted(source):
        return PublishSpan(None, carried)
    attributes: Attributes = {**send_attributes(subject, ""), **source.server}
    span = source.start(
        source.project, f"send {subject}", SpanKind.PRODUCER, Context(), attributes, origin=origin_of(carried)
    )
    return PublishSpan(
        span, [*carried, *source.propagation.inject(set_span_in_context(span.current, Context()))]
    )


def _admitted(source: SpanSource) -> bool:
    source.gate.refill(time.monotonic())  # a command has no sweeper
    return source.gate.admit(None)


def _holds_span(context: Context) -> bool:
    return trace.get_current_span(context).get_span_context().is_valid
