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
from runner.telemetry.propagation import Headers, unsampled
from runner.telemetry.sdkspan import AnySpan
from runner.telemetry.source import Attributes, SpanSource


class PublishSpan:
    """A message on its way; send it with `headers`. The span ends with its `with` block."""

    __slots__ = ("_span", "headers", "trace_id")

    def __init__(self, span: AnySpan | None, headers: Headers) -> None:
        self._span = span if span is not None and span.recording else None
        self.headers = headers
        """What the message carries so that its receivers continue the trace."""
        self.trace_id = "" if self._span is None else format_trace_id(self._span.get_span_context().trace_id)
        """32 hex digits; empty when the message is not traced."""

    def stored(self, stream: str, sequence: int) -> None:
        """Note where the message stands."""
        if self._span is not None:
            self._span.note("messaging.message.id", f"{stream}:{sequence}")

    @contextmanager
    def ending(self) -> Iterator[PublishSpan]:
        """End the span with the block, failed when an exception leaves it."""
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
    """In the trace of `headers`, else the current one, else a new one as far as the gate admits it."""
    context = source.propagation.extract(list(headers))
    if not _holds_span(context):
        context = contexts.get_current()
    root = not _holds_span(context)
    if source.services is None:
        return PublishSpan(None, [])
    if root and not _admitted(source):
        # Without this, each function the message comes to would decide again, in the middle of the trace.
        return PublishSpan(None, [("traceparent", unsampled())])
    attributes: Attributes = {**send_attributes(subject, template), **source.server}
    name = failure.clean(f"send {template or subject}")
    span = source.start(source.project, name, SpanKind.PRODUCER, context, attributes, admitted=root)
    return PublishSpan(span, source.propagation.inject(set_span_in_context(span.current, context)))


def redrive(source: SpanSource, subject: str, headers: Iterable[tuple[str, str]]) -> PublishSpan:
    """In a new trace with a link to the one the message died in; its headers are the message's, whole."""
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
