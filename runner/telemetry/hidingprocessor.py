"""Removes hidden values from the spans of user code before they are exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context, get_value
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Status

from runner.telemetry.failure import Hide
from runner.telemetry.keys import HIDE, SCOPE

MOST = 10_000
"""Most spans that have begun and not ended."""


class HidingProcessor(SpanProcessor):
    """Passes spans on to another processor, without hidden values. Our own spans hide such values themselves."""

    def __init__(self, onward: SpanProcessor) -> None:
        self._onward = onward
        self._running: dict[int, Hide] = {}
        """The `Hide` of each running span, by span id: the span given to `on_end` is a copy."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Remember the `Hide` of the span's message, because the span does not know its message when it ends."""
        scope = span.instrumentation_scope
        if (scope is None or scope.name != SCOPE) and callable(hide := get_value(HIDE, parent_context)):
            if len(self._running) >= MOST:  # some spans never end
                self._running.pop(next(iter(self._running)), None)
            self._running[span.get_span_context().span_id] = hide
        self._onward.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass the span on."""
        hide = self._running.pop(span.context.span_id, None) if span.context is not None else None
        self._onward.on_end(span if hide is None else _without(span, hide))

    def shutdown(self) -> None:
        """Shut down the other processor."""
        self._onward.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the other processor."""
        return self._onward.force_flush(timeout_millis)


def _without(span: ReadableSpan, hide: Hide) -> ReadableSpan:
    status = span.status
    return ReadableSpan(
        hide(span.name),
        span.context,
        span.parent,
        span.resource,
        _attributes(span.attributes or {}, hide),
        [Event(each.name, _attributes(each.attributes or {}, hide), each.timestamp) for each in span.events],
        span.links,
        span.kind,
        status=Status(status.status_code, hide(status.description)) if status.description else status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _attributes(attributes: Mapping[str, Any], hide: Hide) -> dict[str, Any]:
    return {name: _value(value, hide) for name, value in attributes.items()}


def _value(value: Any, hide: Hide) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, (list, tuple)):
        return [_value(each, hide) for each in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if hide(str(value)) == str(value) else hide(str(value))
    return value
