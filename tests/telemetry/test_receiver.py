from __future__ import annotations

import gzip
import http.client
import json
import zlib
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from runner.telemetry.receiver import Receiver


def text(value: str) -> AnyValue:
    return AnyValue(string_value=value)


def export(*names: str, trace: int = 1, message: str = "ORDERS:17") -> bytes:
    spans = [
        Span(
            trace_id=trace.to_bytes(16),
            span_id=number.to_bytes(8),
            parent_span_id=b"" if number == 1 else (1).to_bytes(8),
            name=name,
            kind=Span.SPAN_KIND_CONSUMER,
            start_time_unix_nano=10,
            end_time_unix_nano=20,
            attributes=[
                KeyValue(key="messaging.message.id", value=text(message)),
                KeyValue(key="n", value=AnyValue(int_value=3)),
                KeyValue(key="f", value=AnyValue(double_value=0.5)),
                KeyValue(key="b", value=AnyValue(bool_value=True)),
                KeyValue(key="raw", value=AnyValue(bytes_value=b"\xff")),
                KeyValue(key="list", value=AnyValue(array_value=ArrayValue(values=[text("x")]))),
                KeyValue(
                    key="map",
                    value=AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=AnyValue())])),
                ),
            ],
            events=[Span.Event(name="message.ack", time_unix_nano=15)],
            links=[Span.Link(trace_id=(9).to_bytes(16), span_id=(8).to_bytes(8))],
            status=Status(code=Status.STATUS_CODE_ERROR, message="no"),
        )
        for number, name in enumerate(names, 1)
    ]
    resource = Resource(attributes=[KeyValue(key="service.name", value=text("charge"))])
    batch = ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=spans)])
    return ExportTraceServiceRequest(resource_spans=[batch]).SerializeToString()  # type: ignore[no-any-return]  # protobuf has no types


def ask(
    receiver: Receiver, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(receiver.endpoint).netloc, timeout=60)
    try:
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_every_field_of_a_span_is_kept(receiver: Receiver) -> None:
    assert ask(receiver, "POST", "/v1/traces", export("charge", "query")) == (200, b"")
    first, second = receiver.spans()
    assert (first.trace_id, first.span_id, first.parent_id) == ("0" * 31 + "1", "0" * 15 + "1", "")
    assert second.parent_id == first.span_id
    assert (first.name, first.kind, first.service) == ("charge", "consumer", "charge")
    assert (first.start_ns, first.end_ns) == (10, 20)
    assert first.attributes == {
        "messaging.message.id": "ORDERS:17",
        "n": 3,
        "f": 0.5,
        "b": True,
        "raw": "ff",
        "list": ["x"],
        "map": {"k": None},
    }
    assert [(event.name, event.time_ns) for event in first.events] == [("message.ack", 15)]
    assert [link.trace_id for link in first.links] == ["0" * 31 + "9"]
    assert (first.failed, first.status, first.status_message) == (True, "error", "no")


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
def test_packed_exports_are_unpacked(receiver: Receiver, encoding: str, pack: object) -> None:
    assert callable(pack)
    status, _ = ask(receiver, "POST", "/v1/traces", pack(export("charge")), Content_Encoding=encoding)
    assert status == 200
    assert [span.name for span in receiver.spans()] == ["charge"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/traces", b"\xff\xff\xff", {}, 400),
        ("/v1/traces", b"not gzip", {"Content_Encoding": "gzip"}, 400),
        ("/v1/traces", gzip.compress(export("a"))[:-9], {"Content_Encoding": "gzip"}, 400),
        ("/v1/traces", b"x", {"Content_Encoding": "zstd"}, 400),
        ("/v1/traces", b"{}", {"Content_Type": "application/json"}, 415),
        ("/v1/traces", gzip.compress(b"\0" * (65 << 20)), {"Content_Encoding": "gzip"}, 400),
        ("/v1/metrics", b"", {}, 404),
        ("/v1/traces", b"", {"Content_Length": str(65 << 20)}, 413),
        ("/v1/traces", b"", {"Content_Length": "-1"}, 411),
    ],
)
def test_what_is_no_export_is_refused(
    receiver: Receiver, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert ask(receiver, "POST", path, body, **headers)[0] == status
    assert receiver.spans() == []


def test_only_the_latest_spans_are_kept() -> None:
    with Receiver(capacity=3) as receiver:
        ask(receiver, "POST", "/v1/traces", export("a", "b"))
        ask(receiver, "POST", "/v1/traces", export("c", "d"))
        assert [span.name for span in receiver.spans()] == ["b", "c", "d"]


def test_spans_are_found_by_trace_and_by_message(receiver: Receiver) -> None:
    receiver_spans = {1: "ORDERS:17", 2: "ORDERS:18"}
    for trace, message in receiver_spans.items():
        ask(receiver, "POST", "/v1/traces", export(f"span {trace}", trace=trace, message=message))
    for query in (f"trace={'0' * 31}2", "message=ORDERS:18"):
        status, body = ask(receiver, "GET", f"/spans?{query}")
        assert status == 200
        assert [span["name"] for span in json.loads(body)] == ["span 2"]
    assert ask(receiver, "GET", "/spans?message=NONE:1") == (200, b"[]")
    assert ask(receiver, "GET", "/spans")[0] == 404
    assert ask(receiver, "GET", "/")[0] == 404


def test_waiting_ends_when_the_spans_are_there_or_says_which_are() -> None:
    with Receiver() as receiver:
        ask(receiver, "POST", "/v1/traces", export("charge"))
        assert len(receiver.wait(lambda spans: len(spans) == 1, timeout=60)) == 1
        with pytest.raises(TimeoutError, match="there are: charge"):
            receiver.wait(lambda spans: len(spans) == 2, timeout=0.01)


def test_a_taken_port_is_an_error(receiver: Receiver) -> None:
    with pytest.raises(OSError, match="in use"):
        Receiver(urlsplit(receiver.endpoint).port or 0)
