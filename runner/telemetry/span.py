"""A finished span as a plain value, from any source."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

Value: TypeAlias = str | int | float | bool | list["Value"] | dict[str, "Value"] | None
Attributes: TypeAlias = dict[str, Value]


class SpanEvent(Struct, frozen=True):
    """An event of a span."""

    name: str
    time_ns: int
    attributes: Attributes = {}


class SpanLink(Struct, frozen=True):
    """A link to another span; ids are lower-case hex."""

    trace_id: str
    span_id: str
    attributes: Attributes = {}


class Span(Struct, frozen=True):
    """One span; ids are lower-case hex, times are nanoseconds of Unix time."""

    trace_id: str
    span_id: str
    parent_id: str
    """The parent's id; empty for a root span."""
    name: str
    kind: str
    """`internal`, `server`, `client`, `producer` or `consumer`."""
    start_ns: int
    end_ns: int
    service: str
    attributes: Attributes = {}
    resource: Attributes = {}
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    status: str = "unset"
    """`unset`, `ok` or `error`."""
    status_message: str = ""

    @property
    def failed(self) -> bool:
        """Whether the span ended in an error."""
        return self.status == "error"
