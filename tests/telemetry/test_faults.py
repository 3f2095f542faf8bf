"""Collectors that are gone, hang, or refuse: one line in the log, and a bounded end."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from runner.errors import SettingsError
from runner.telemetry import settings
from runner.telemetry.receiver import Receiver
from runner.telemetry.tracing import Tracing
from tests.support.port import free_port
from tests.telemetry.delivery import SAMPLED, facts, start

Make = Callable[..., Tracing]


@pytest.fixture
def hung() -> Iterator[str]:
    """A collector that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def unavailable() -> Iterator[str]:
    """A collector that answers 503."""

    class Unavailable(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Unavailable) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def refused() -> str:
    """No collector at all."""
    return f"http://127.0.0.1:{free_port()}"


def ended_in(tracing: Tracing, timeout: float = 3.0) -> float:
    began = time.monotonic()
    assert tracing.shutdown(timeout) is False
    return time.monotonic() - began


@pytest.mark.parametrize("collector", ["hung", "unavailable", "refused"])
def test_a_shutdown_with_thousands_of_spans_to_deliver_is_bounded(
    collector: str, request: pytest.FixtureRequest, make_tracing: Make
) -> None:
    tracing = make_tracing(OTEL_EXPORTER_OTLP_ENDPOINT=request.getfixturevalue(collector))
    for _ in range(2000):
        start(tracing, SAMPLED).end_ack()
    assert ended_in(tracing) < 9  # three; ten for each batch without a bound


@pytest.mark.parametrize(
    ("collector", "reason"),
    [
        ("hung", "no answer in time"),
        ("unavailable", "Service Unavailable"),
        ("refused", "Connection refused"),
    ],
)
def test_a_collector_that_does_not_take_spans_costs_one_line(
    collector: str,
    reason: str,
    request: pytest.FixtureRequest,
    make_tracing: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    endpoint = request.getfixturevalue(collector)
    tracing = make_tracing(
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_EXPORTER_OTLP_TIMEOUT="1300",
        OTEL_BSP_SCHEDULE_DELAY="20000",
    )
    for _ in range(2):
        start(tracing, SAMPLED).end_ack()
        assert tracing.flush(4.0) is False
    assert ended_in(tracing) < 9
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"traces do not arrive at {endpoint}/v1/traces: ")
    assert reason in line


def test_a_command_that_ends_at_once_does_not_wait_for_a_missing_collector(refused: str) -> None:
    took: list[float] = []
    while not took or (took[-1] >= 2.5 and len(took) < 3):  # the machine may stand still
        tracing = Tracing(settings.load({"OTEL_EXPORTER_OTLP_ENDPOINT": refused}), "shop", one_try=True)
        with tracing.publish_span("a.b"):
            pass
        took.append(ended_in(tracing))
    assert took[-1] < 2.5, took  # three if it waited


def test_spans_arrive_again_once_the_collector_is_back(
    make_tracing: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jetrunner.telemetry")
    port = free_port()
    tracing = make_tracing(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_TIMEOUT="0.5"
    )
    start(tracing, SAMPLED).end_ack()
    lost = 1
    assert tracing.flush(60) is False
    with Receiver(port) as receiver:
        start(tracing, SAMPLED).end_ack()
        while not tracing.flush(60):  # the collector may stand still for a moment
            start(tracing, SAMPLED).end_ack()
            lost += 1
        assert receiver.spans()
    assert caplog.records[-1].getMessage().endswith(f"again; {lost} spans were lost")


def test_a_shutdown_delivers_what_is_queued(make_tracing: Make, receiver: Receiver) -> None:
    tracing = make_tracing()
    start(tracing, SAMPLED).end_ack()
    assert tracing.flush(60)  # a collector that has taken spans before is waited for at the end
    for _ in range(700):
        start(tracing, SAMPLED).end_ack()
    assert tracing.shutdown(60) is True
    assert len(receiver.spans()) == 701


def test_one_span_that_cannot_be_encoded_does_not_cost_the_others(
    make_tracing: Make, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    tracing = make_tracing(OTEL_BSP_SCHEDULE_DELAY="20000")
    for name in ("charge", "half a pair \udc00", "refund"):
        tracing.start_attempt(name, **facts(SAMPLED)).end_ack()
    assert tracing.flush(60)
    assert [span.name for span in receiver.spans()] == ["charge", "refund"]
    assert caplog.records == []


def test_a_subject_that_is_no_utf_8_is_traced_all_the_same(make_tracing: Make, receiver: Receiver) -> None:
    tracing = make_tracing()
    attempt = start(tracing, SAMPLED, subject="a.\udcff")
    attempt.output("b.\udcff").end()
    attempt.end_ack()
    with tracing.publish_span("c.\udcff"):
        pass
    assert tracing.flush(60)
    assert sorted(span.name for span in receiver.spans()) == ["charge", "send b.?", "send c.?"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "999999"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "many"),
    ],
)
def test_a_variable_the_sdk_itself_refuses_is_a_settings_error(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="OTEL_"):
        Tracing(settings.load({}), "shop")


def test_compressed_exports_with_headers_arrive(
    make_tracing: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    tracing = make_tracing(OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20hush")
    start(tracing, SAMPLED).end_ack()
    assert tracing.flush(60)
    assert len(receiver.spans()) == 1


def test_the_console_exporter_keeps_stdout_for_data(
    make_tracing: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    tracing = make_tracing(OTEL_TRACES_EXPORTER="console")
    start(tracing, SAMPLED).end_ack()
    assert tracing.flush(60)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert '"name": "charge"' in printed.err
