"""What is written decodes as what was meant, by protobuf's own classes."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from runner.core import otlp

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES = st.one_of(TEXT, st.booleans(), INT64, st.floats(allow_nan=False))
ATTRIBUTES = st.dictionaries(TEXT.filter(bool), VALUES, max_size=5)
TIMES = st.integers(0, (1 << 64) - 1)
TRACES, SPANS = st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1)


def by_the_sdk(span: ReadableSpan) -> trace_pb2.Span:
    """The span as the SDK's exporter writes it."""
    (resource,) = encode_spans([span]).resource_spans
    written: trace_pb2.Span = resource.scope_spans[0].spans[0]
    return written


@given(
    name=TEXT,
    kind=st.sampled_from(SpanKind),
    ids=st.tuples(TRACES, SPANS),
    parent=st.none() | st.tuples(SPANS, st.booleans()),
    times=st.tuples(TIMES, TIMES),
    attributes=ATTRIBUTES,
    event=st.none() | st.tuples(TEXT, TIMES, ATTRIBUTES),
    link=st.none() | st.tuples(TRACES, SPANS),
    status=st.tuples(st.sampled_from(StatusCode), TEXT),
)
@example("", SpanKind.CLIENT, (1, 1), None, (0, 0), {"": 1, "a": -1, "b": "", "c": 0.0, "d": False}, None, None,
         (StatusCode.UNSET, ""))  # fmt: skip
def test_a_span_decodes_as_the_same_one_of_the_sdk(
    name: str,
    kind: SpanKind,
    ids: tuple[int, int],
    parent: tuple[int, bool] | None,
    times: tuple[int, int],
    attributes: dict[str, otlp.Value],
    event: tuple[str, int, dict[str, otlp.Value]] | None,
    link: tuple[int, int] | None,
    status: tuple[StatusCode, str],
) -> None:
    code, why = status
    why = why if code is StatusCode.ERROR else ""  # the SDK has no other text
    trace_id, span_id = ids
    parts = [
        otlp.ids(trace_id.to_bytes(16, "big"), span_id.to_bytes(8, "big"), *times),
        otlp.kind(kind.value + 1, name),
        otlp.attributes(attributes),
        otlp.parent(
            parent[0].to_bytes(8, "big") if parent else None, remote=parent is not None and parent[1]
        ),
        otlp.status(code.value, why),
    ]
    if event is not None:
        parts.append(otlp.event(*event))
    if link is not None:
        parts.append(otlp.link(link[0].to_bytes(16, "big"), link[1].to_bytes(8, "big")))
    span = ReadableSpan(
        name,
        SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(1)),
        SpanContext(trace_id, parent[0], is_remote=parent[1]) if parent else None,
        attributes=attributes,
        events=[Event(event[0], event[2], event[1])] if event else [],
        links=[Link(SpanContext(*link, is_remote=True))] if link else [],
        kind=kind,
        status=Status(code, why or None),
        start_time=times[0],
        end_time=times[1],
    )
    assert trace_pb2.Span.FromString(b"".join(parts)) == by_the_sdk(span)


@given(st.integers(0, 400).map("x".__mul__) | TEXT.filter(lambda text: len(text.encode()) <= 512))
def test_the_head_of_a_text_fits_its_length(text: str) -> None:
    heads = otlp.TextAttribute("messaging.destination.name", 512).heads
    written = heads[len(text.encode())] + text.encode()
    assert written == otlp.attribute("messaging.destination.name", text)


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1, 1 << 200])
def test_a_number_that_otlp_cannot_hold_is_left_out(number: int) -> None:
    assert otlp.attribute("n", number) == b""


def test_a_member_of_an_enumeration_is_its_number_at_once() -> None:
    assert otlp.attribute("code", HTTPStatus.OK) == otlp.attribute("code", 200)


def test_half_a_surrogate_pair_is_replaced() -> None:
    written = trace_pb2.Span.FromString(otlp.kind(otlp.CONSUMER, "a\udc00") + otlp.attribute("b", "\udc00c"))
    assert (written.name, written.attributes[0].value.string_value) == ("a?", "?c")


@given(ids=st.tuples(TRACES, SPANS), times=st.tuples(TIMES, TIMES))
def test_an_attempt_that_succeeded_is_written_as_any_other(
    ids: tuple[int, int], times: tuple[int, int]
) -> None:
    given = ids[0].to_bytes(16, "big"), ids[1].to_bytes(8, "big"), *times
    usual = (
        otlp.ids(*given)
        + otlp.attribute("jetrunner.outcome", "ack")
        + otlp.event("message.ack", times[1], {})
        + otlp.status(otlp.UNSET)
    )
    assert trace_pb2.Span.FromString(otlp.acked(*given) + otlp.ACKED) == trace_pb2.Span.FromString(usual)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_requests_behind_one_another_are_one(names: list[bytes]) -> None:
    body = b""
    for half in (names[::2], names[1::2]):
        spans = [otlp.sized(b"\x12", otlp.kind(otlp.SERVER, name.hex())) for name in half]
        resource = otlp.sized(b"\x0a", otlp.attribute("service.name", "a", b"\x0a"))
        scope = otlp.sized(b"\x0a", otlp.sized(b"\x0a", b"jetrunner"))
        body += b"".join(otlp.request(resource, scope, spans, sum(map(len, spans))))
    first, second = ExportTraceServiceRequest.FromString(body).resource_spans
    assert first.resource.attributes[0].value.string_value == "a"
    assert second.scope_spans[0].scope.name == "jetrunner"
    assert [span.name for span in first.scope_spans[0].spans] == [name.hex() for name in names[::2]]
    assert [span.name for span in second.scope_spans[0].spans] == [name.hex() for name in names[1::2]]
