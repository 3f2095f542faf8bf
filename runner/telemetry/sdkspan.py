"""A span of the runner's own that the SDK makes: used where the runner's encoder is not, or where tracing is off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from opentelemetry.trace import Span, SpanContext, StatusCode

from runner.core.otlp import Value
from runner.telemetry.ownspan import OwnSpan


class SdkSpan:
    """A span with the methods of `OwnSpan`."""

    __slots__ = ("current", "tells_exceptions")

    def __init__(self, span: Span, *, tells_exceptions: bool = True) -> None:
        self.current = span
        """The span that the handler's code finds as its current one."""
        self.tells_exceptions = tells_exceptions
        """Whether exceptions are added to it as events."""

    @property
    def sampled(self) -> bool:
        """Whether its trace is kept."""
        return self.current.get_span_context().trace_flags.sampled

    @property
    def recording(self) -> bool:
        """Whether the span still records, and will be exported."""
        return self.current.is_recording()

    def get_span_context(self) -> SpanContext:
        """The span's ids."""
        return self.current.get_span_context()

    def note(self, key: str, value: Value) -> None:
        """Add an attribute."""
        self.current.set_attribute(key, value)

    def happened(self, name: str, facts: Mapping[str, Value]) -> None:
        """Add an event."""
        self.current.add_event(name, facts)

    def link(self, to: SpanContext, names: Mapping[str, Value], _encoded: bytes) -> None:
        """Link to another span, and name that span in attributes."""
        self.current.add_link(to)
        self.current.set_attributes(names)

    def failed(self, why: str) -> None:
        """Set the status to error."""
        self.current.set_status(StatusCode.ERROR, why)

    def finish(self) -> None:
        """End the span."""
        self.current.end()

    def finish_acked(self) -> None:
        """End the span of an attempt that has succeeded."""
        self.note("jetrunner.outcome", "ack")
        self.happened("message.ack", {})
        self.finish()


AnySpan: TypeAlias = OwnSpan | SdkSpan
