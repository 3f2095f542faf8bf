"""A finished span as a plain value, wherever it was read from."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

Value: TypeAlias = str | int | float | bool | list["Value"] | dict[str, "Value"] | None
Attributes: TypeAlias = dict[str, Value]


class Event(Struct, frozen=True):
    """Something that happened in a span."""

    name: str
    time_ns: int
    attributes: Attributes = {}


class SpanLink(Struct, frozen=True):
    """Another span this one points at; ids are lower-case hex."""

    trace_id: str
    span_id: str
    attributes: Attributes = {}


class Span(Struct, frozen=True):
    """One span; ids are lower-case hex, times Unix nanoseconds."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a root."""
    name: str
    kind: str
    """`internal`, `server`, `client`, `producer` or `consumer`."""
    start_ns: int
    end_ns: int
    service: str
    attributes: Attributes = {}
    resource: Attributes = {}
    events: tuple[Event, ...] = ()
    links: tuple[SpanLink, ...] = ()
    status: str = "unset"
    """`unset`, `ok` or `error`."""
    status_message: str = ""

    @property
    def failed(self) -> bool:
        """Whether it ended in an error."""
        return self.status == "error"
