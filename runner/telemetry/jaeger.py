"""Reads spans from traces in the format of Jaeger's query API (`/api/traces`)."""

from __future__ import annotations

from typing import Any

import msgspec

from runner.telemetry.span import Attributes, Span, SpanEvent, SpanLink


class _Tag(msgspec.Struct):
    key: str
    value: Any = None


class _Log(msgspec.Struct):
    timestamp: int = 0
    fields: list[_Tag] = []


class _Reference(msgspec.Struct, rename="camel"):
    ref_type: str
    trace_id: str = msgspec.field(name="traceID")
    span_id: str = msgspec.field(name="spanID")


class _JaegerSpan(msgspec.Struct, rename="camel"):
    trace_id: str = msgspec.field(name="traceID")
    span_id: str = msgspec.field(name="spanID")
    operation_name: str
    start_time: int
    duration: int
    process_id: str = msgspec.field(name="processID", default="")
    references: list[_Reference] = []
    tags: list[_Tag] = []
    logs: list[_Log] | None = None


class _Process(msgspec.Struct, rename="camel"):
    service_name: str = ""
    tags: list[_Tag] = []


class _Trace(msgspec.Struct):
    spans: list[_JaegerSpan] = []
    processes: dict[str, _Process] = {}


class _Answer(msgspec.Struct):
    data: list[_Trace] | None = None


def decode(body: bytes) -> list[Span]:
    """The spans in an answer of the query API; ValueError (msgspec's) if it is none. Jaeger's times are in microseconds."""
    answer = msgspec.json.decode(body, type=_Answer)
    return [
        _span(span, trace.processes.get(span.process_id, _Process()))
        for trace in answer.data or ()
        for span in trace.spans
    ]


def _span(span: _JaegerSpan, process: _Process) -> Span:
    tags = _attributes(span.tags)
    parents = [one for one in span.references if one.ref_type == "CHILD_OF" and one.trace_id == span.trace_id]
    links = [one for one in span.references if one not in parents[:1]]
    failed = tags.pop("error", None) is True or tags.get("otel.status_code") == "ERROR"
    return Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=parents[0].span_id if parents else "",
        name=span.operation_name,
        kind=str(tags.pop("span.kind", "internal")),
        start_ns=span.start_time * 1000,
        end_ns=(span.start_time + span.duration) * 1000,
        service=process.service_name,
        attributes=tags,
        resource=_attributes(process.tags),
        events=tuple(_event(log) for log in span.logs or ()),
        links=tuple(SpanLink(one.trace_id, one.span_id) for one in links),
        status="error" if failed else "unset",
        status_message=str(tags.pop("otel.status_description", "")),
    )


def _event(log: _Log) -> SpanEvent:
    fields = _attributes(log.fields)
    return SpanEvent(str(fields.pop("event", "")), log.timestamp * 1000, fields)


def _attributes(tags: list[_Tag]) -> Attributes:
    return {tag.key: tag.value for tag in tags}
