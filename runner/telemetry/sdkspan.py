"""A span of the runner's own that the SDK makes: where its own encoder is not used, or tracing is off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from opentelemetry.trace import Span, SpanContext, StatusCode

from runner.core.otlp import Value
from runner.telemetry.ownspan import OwnSpan


class SdkSpan:
    """Does as `OwnSpan` does."""

    __slots__ = ("current", "tells_exceptions")

    def __init__(self, span: Span, *, tells_exceptions: bool = True) -> None:
        self.current = span
        """What the code of a handler finds."""
        self.tells_exceptions = tells_exceptions
        """Whether what was raised is one of its events."""

    @property
    def recording(self) -> bool:
        """Whether anything of it will be seen."""
        return self.current.is_recording()

    def get_span_context(self) -> SpanContext:
        """Its ids."""
        return self.current.get_span_context()

    def note(self, key: str, value: Value) -> None:
        """Add an attribute."""
        self.current.set_attribute(key, value)

    def happened(self, name: str, facts: Mapping[str, Value]) -> None:
        """Add an event."""
        self.current.add_event(name, facts)

    def link(self, to: SpanContext, names: Mapping[str, Value], _encoded: bytes) -> None:
        """Link to another span, and name that in attributes."""
        self.current.add_link(to)
        self.current.set_attributes(names)

    def failed(self, why: str) -> None:
        """Mark it as an error."""
        self.current.set_status(StatusCode.ERROR, why)

    def finish(self) -> None:
        """End it."""
        self.current.end()

    def finish_acked(self) -> None:
        """End an attempt that has succeeded."""
        self.note("jetrunner.outcome", "ack")
        self.happened("message.ack", {})
        self.finish()


AnySpan: TypeAlias = OwnSpan | SdkSpan
