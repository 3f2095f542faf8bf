"""Decodes OTLP trace exports."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from runner.telemetry.span import Attributes, Span, SpanEvent, SpanLink, Value

_KINDS = ("internal", "internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")


def decode(body: bytes) -> list[Span]:
    """The spans of an ExportTraceServiceRequest in protobuf; ValueError if it is none."""
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise ValueError("not an OTLP trace export") from error
    spans = []
    for batch in request.resource_spans:
        resource = attributes(batch.resource.attributes)
        for scope in batch.scope_spans:
            spans += [_span(span, resource) for span in scope.spans]
    return spans


def _span(span: trace_pb2.Span, resource: Attributes) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=_KINDS[span.kind] if span.kind < len(_KINDS) else "internal",
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        service=str(resource.get("service.name", "")),
        attributes=attributes(span.attributes),
        resource=resource,
        events=tuple(
            SpanEvent(one.name, one.time_unix_nano, attributes(one.attributes)) for one in span.events
        ),
        links=tuple(
            SpanLink(one.trace_id.hex(), one.span_id.hex(), attributes(one.attributes)) for one in span.links
        ),
        status=_STATUSES[span.status.code] if span.status.code < len(_STATUSES) else "unset",
        status_message=span.status.message,
    )


def attributes(pairs: Iterable[KeyValue]) -> Attributes:
    """Attributes as plain values, by name."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Value:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "array_value":
            return [_value(one) for one in value.array_value.values]
        case "kvlist_value":
            return attributes(value.kvlist_value.values)
        case "bytes_value":
            return value.bytes_value.hex()
        case _:
            return None
