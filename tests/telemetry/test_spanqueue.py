"""Encoded spans wait within bounds, and go out in requests that collectors take; what finds no room is counted."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import INVALID_SPAN

from runner.core import otlp
from runner.telemetry.spanqueue import MOST_BYTES, REQUEST_BYTES, Lane, SpanQueue
from runner.telemetry.tracing import Tracing
from tests.support.eventually import eventually
from tests.telemetry.collector import Collector
from tests.telemetry.delivery import SAMPLED, start

Make = Callable[..., Tracing]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@contextmanager
def outbox(keep: Callable[[tuple[bytes, int]], None], batch: int | None = None) -> Iterator[SpanQueue]:
    """One that sends when told, or when much waits."""

    def send(body: bytes, spans: int) -> bool:
        keep((body, spans))
        return True

    box = SpanQueue(send, 60.0, batch=batch)
    try:
        yield box
    finally:
        box.shutdown()


def lane(box: SpanQueue, service: str) -> Lane:
    resource = otlp.sized(b"\x0a", otlp.attribute("service.name", service, b"\x0a"))
    return box.lane(service, resource, otlp.sized(b"\x0a", b""), lambda _: INVALID_SPAN)


def names(body: bytes) -> list[tuple[str, str]]:
    """Service and name of each span."""
    return [
        (each.resource.attributes[0].value.string_value, span.name)
        for each in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in each.scope_spans
        for span in scope.spans
    ]


@given(
    spans=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5_000)), max_size=60),
    batch=st.none() | st.integers(1, 20),
)
def test_all_go_out_once_in_requests_of_so_many_at_most(
    spans: list[tuple[int, int]], batch: int | None
) -> None:
    sent: list[tuple[bytes, int]] = []
    with outbox(sent.append, batch) as box:
        lanes = [lane(box, f"s{number}") for number in range(4)]
        put = [(f"s{service}", f"{number}{'x' * size}") for number, (service, size) in enumerate(spans)]
        for (service, _), (_, name) in zip(spans, put, strict=True):
            lanes[service].put(lanes[service], otlp.kind(otlp.CONSUMER, name))
        assert box.flush()
        assert [count for _, count in sent] == [len(names(body)) for body, _ in sent]
        assert sorted(name for body, _ in sent for name in names(body)) == sorted(put)
        assert all(count <= (batch or 60) for _, count in sent)
        assert batch is not None or len(sent) <= 1


def test_a_request_is_no_larger_than_collectors_take() -> None:
    sent: list[tuple[bytes, int]] = []
    with outbox(sent.append) as box:
        one = lane(box, "a")
        gate = box._sending
        with gate:
            for _ in range(700):
                one.put(one, otlp.kind(otlp.CONSUMER, "x" * 20_000))
        box.flush()
    sizes = [len(body) for body, _ in sent]
    assert sum(sizes) > 700 * 20_000
    assert max(sizes) < REQUEST_BYTES + 1_000


@pytest.mark.parametrize("most", [None, 100, 200_000])
def test_what_waits_is_bounded_and_what_finds_no_room_is_counted(most: int | None) -> None:
    taken, dropped, hold, asked = [0], [0], threading.Event(), threading.Event()

    def send(_: bytes, count: int) -> bool:
        asked.set()
        hold.wait(60)
        taken[0] += count
        return True

    def told(count: int) -> None:
        dropped[0] += count

    span = otlp.kind(otlp.CONSUMER, "x" * 400)
    box = SpanQueue(send, 60.0, most=most, dropped=told)
    one = lane(box, "a")
    one.put(one, span)
    busy = threading.Thread(target=box.flush)
    busy.start()
    assert asked.wait(60)  # it waits for the collector now
    put = 300_000
    for _ in range(put):
        one.put(one, span)
    waiting = len(one.parts) // 2
    assert waiting == (most or MOST_BYTES // len(span))
    hold.set()
    busy.join()
    box.shutdown()
    assert (taken[0], dropped[0]) == (1 + waiting, put - waiting)
    one.put(one, span)  # late, and nothing of it
    assert taken[0] == 1 + waiting


def test_much_is_sent_before_its_time() -> None:
    sent = threading.Event()
    with outbox(lambda _: sent.set()) as box:
        one = lane(box, "a")
        for _ in range(MOST_BYTES // 8 // 400):
            one.put(one, otlp.kind(otlp.CONSUMER, "x" * 400))
        assert sent.wait(60)


def test_a_child_process_sends_its_own_and_none_of_its_parents() -> None:
    reading, writing = os.pipe()

    def keep(request: tuple[bytes, int]) -> None:
        os.write(writing, b"".join(name.encode() + b"\n" for _, name in names(request[0])))

    with outbox(keep) as box:
        one = lane(box, "a")
        one.put(one, otlp.kind(otlp.CONSUMER, "parent"))
        child = os.fork()
        if not child:
            one.put(one, otlp.kind(otlp.CONSUMER, "child"))
            box.shutdown()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert os.read(reading, 100) == b"child\n"
        box.flush()
        assert os.read(reading, 100) == b"parent\n"


async def test_drops_are_told_in_one_line(
    make_tracing: Make, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.open.clear()
    tracing = make_tracing(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_BSP_MAX_QUEUE_SIZE="600",
        OTEL_BSP_SCHEDULE_DELAY="50",
        OTEL_EXPORTER_OTLP_TIMEOUT="60000",
    )
    start(tracing, SAMPLED).end_ack()
    await eventually(collector.asked.is_set)
    for _ in range(700):
        start(tracing, SAMPLED).end_ack()
    collector.open.set()
    assert tracing.flush(60)
    assert tracing.shutdown() is False
    assert len(collector.taken()) == 601
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.startswith(f"100 spans were dropped, more than {collector.endpoint}/v1/traces takes in time")


def test_the_runners_own_and_the_users_spans_go_one_way(make_tracing: Make, collector: Collector) -> None:
    with ExitStack() as stack:
        tracing = make_tracing(OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
        stack.callback(tracing.shutdown)
        services = tracing._source.services
        assert services is not None
        services.provider("charge").get_tracer("mine").start_span("mine").end()
        start(tracing, SAMPLED).end_ack()
        assert tracing.flush(60)
        assert sorted(span.name for _, span in collector.taken()) == ["charge", "mine"]
