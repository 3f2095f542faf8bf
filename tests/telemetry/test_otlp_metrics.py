"""Metrics over OTLP: those of `/metrics`, sent to a collector again and again, and at the end; without one nothing waits."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from runner.errors import SettingsError
from runner.telemetry import metricsettings
from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.process import RunnerProcess
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.collector import Collector

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHOP = """
    from runner import Reject, consume

    @consume("orders.{kind}")
    async def charge(body: bytes, kind: str) -> None:
        if kind == "bad":
            raise Reject("no")
"""
ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"


@pytest.fixture
async def project(make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream) -> Project:
    await js.create("ORDERS", ["orders.*"])
    return make_project(functions={"shop": SHOP}, nats=nats_server.url)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


async def run(project: Project, *arguments: str, **variables: str) -> RunnerProcess:
    process = project.start("run", *arguments, **variables)
    await process.seen("ready: ")
    return process


def points(body: bytes) -> dict[str, dict[tuple[str, ...], Any]]:
    """By name and labels: the value, or the point of a histogram."""
    found: dict[str, dict[tuple[str, ...], Any]] = {}
    for metric in ExportMetricsServiceRequest.FromString(body).resource_metrics[0].scope_metrics[0].metrics:
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            labels = tuple(each.value.string_value for each in point.attributes)
            value = point if kind == "histogram" else point.as_double
            found.setdefault(metric.name, {})[labels] = value
    return found


async def test_every_figure_of_metrics_is_sent(
    project: Project, js: RawJetStream, collector: Collector
) -> None:
    health = free_port()
    process = await run(
        project,
        "--health",
        f"127.0.0.1:{health}",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{collector.endpoint}/v1/metrics",
        OTEL_METRIC_EXPORT_INTERVAL="200",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:9",
    )
    traced = {"traceparent": f"00-{'5' * 32}-{'6' * 16}-01"}
    for kind in ("ok", "ok", "bad"):
        await js.publish(f"orders.{kind}", b"x", traced)

    def settled() -> bool:
        sent = points(collector.bodies[-1]) if collector.bodies else {}
        counts = sent.get("jetrunner_messages", {})
        return (counts.get(("charge", "ack")), counts.get(("charge", "rejected"))) == (2, 1)

    await eventually(settled)
    body = collector.bodies[-1]
    resource = ExportMetricsServiceRequest.FromString(body).resource_metrics[0].resource
    about = {each.key: each.value.string_value for each in resource.attributes}
    assert (about["service.name"], about["deployment.environment"]) == ("shop", "test")
    assert about["service.instance.id"]
    wait = points(body)["jetrunner_wait_seconds"]["charge",]
    assert wait.count == sum(wait.bucket_counts) == 3
    assert len(wait.bucket_counts) == len(wait.explicit_bounds) + 1
    assert wait.sum > 0
    assert wait.start_time_unix_nano < wait.time_unix_nano <= time.time_ns()
    took = points(body)["jetrunner_duration_seconds"]["charge",]
    assert {each.trace_id.hex() for each in took.exemplars} == {"5" * 32}
    async with httpx.AsyncClient(timeout=30) as asking:
        text = (await asking.get(f"http://127.0.0.1:{health}/metrics")).text
    shown = set(re.findall(r"^# TYPE (\S+) (?:gauge|histogram)", text, re.MULTILINE))
    shown |= {
        each.removesuffix("_total") for each in re.findall(r"^# TYPE (\S+) counter", text, re.MULTILINE)
    }
    assert set(points(body)) == shown
    assert process.running


async def test_what_was_done_after_the_last_minute_is_sent_at_the_end(
    project: Project, js: RawJetStream, collector: Collector
) -> None:
    process = await run(project, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{collector.endpoint}/v1/metrics")
    await js.publish("orders.ok", b"x")
    await eventually(lambda: js.settled("ORDERS", "shop-charge"))
    process.terminate()
    assert await process.ended() == 0
    (body,) = collector.bodies
    assert points(body)["jetrunner_messages"]["charge", "ack"] == 1


async def test_nothing_is_sent_unless_it_is_asked_for(
    project: Project, js: RawJetStream, collector: Collector
) -> None:
    process = await run(
        project, OTEL_TRACES_EXPORTER="none", OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_METRIC_EXPORT_INTERVAL="20",
    )  # fmt: skip
    await js.publish("orders.ok", b"x")
    await eventually(lambda: js.settled("ORDERS", "shop-charge"))
    process.terminate()
    assert await process.ended() == 0
    assert collector.bodies == []


async def test_a_collector_that_is_not_there_is_told_once_and_again_when_it_is_back(
    project: Project, js: RawJetStream
) -> None:
    port = free_port()
    process = await run(
        project,
        OTEL_METRICS_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
        OTEL_METRIC_EXPORT_INTERVAL="50",
        OTEL_EXPORTER_OTLP_METRICS_TIMEOUT="200",
    )
    await process.seen(f"metrics do not arrive at http://127.0.0.1:{port}/v1/metrics: Connection refused")
    await js.publish("orders.ok", b"x")
    await eventually(lambda: js.settled("ORDERS", "shop-charge"))
    with Collector(port):
        await process.seen("metrics arrive at .* again")
        before, _, _ = process.output.partition("metrics arrive at")
        assert before.count("metrics do not arrive") == 1


async def test_a_collector_that_hangs_holds_nothing_up(
    project: Project, js: RawJetStream, collector: Collector
) -> None:
    collector.open.clear()
    process = await run(
        project,
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{collector.endpoint}/v1/metrics",
        OTEL_METRIC_EXPORT_INTERVAL="50",
        OTEL_EXPORTER_OTLP_METRICS_TIMEOUT="60000",
    )
    assert collector.asked.wait(60)
    await js.publish("orders.ok", b"x")
    await eventually(lambda: js.settled("ORDERS", "shop-charge"))
    process.terminate()
    assert await process.ended(within=60) == 0, "the exporter alone would wait for 60 s"


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTEL_METRICS_EXPORTER": "otlp"}, "http://a:1/v1/metrics"),
        ({"OTEL_METRICS_EXPORTER": "OTLP"}, "http://localhost:4318/v1/metrics"),
        ({ENDPOINT: "http://a:1/m"}, "http://a:1/m"),
        ({ENDPOINT: "http://a:1/m", "OTEL_METRICS_EXPORTER": "none"}, ""),
        ({ENDPOINT: "http://a:1/m", "OTEL_SDK_DISABLED": "true"}, ""),
    ],
)  # fmt: skip
def test_variables_say_where_metrics_go(variables: dict[str, str], wanted: str) -> None:
    found = metricsettings.load(variables)
    assert (found.endpoint if found is not None else "") == wanted


def test_an_endpoint_that_is_no_url_is_refused() -> None:
    with pytest.raises(SettingsError, match=ENDPOINT):
        metricsettings.load({ENDPOINT: "a:1"})


REAL = """\
service:
  extensions: [jaeger_storage]
  pipelines:
    metrics: {{receivers: [otlp], exporters: [prometheus]}}
  telemetry:
    metrics: {{level: none}}
    logs: {{level: warn}}
extensions:
  jaeger_storage: {{backends: {{memory: {{memory: {{max_traces: 1}}}}}}}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{otlp}"}}}}}}
exporters:
  prometheus: {{endpoint: "127.0.0.1:{page}", enable_open_metrics: true}}
"""


@contextmanager
def real_collector(folder: Path, otlp: int, page: int) -> Iterator[None]:
    """Jaeger's binary is a collector of OpenTelemetry's, with its receiver of metrics and its page for Prometheus."""
    (folder / "collector.yaml").write_text(REAL.format(otlp=otlp, page=page))
    with (folder / "collector.log").open("wb") as told:
        process = subprocess.Popen(
            [os.environ["JAEGER_BIN"], "--config", str(folder / "collector.yaml")], stdout=told, stderr=told
        )
        try:
            yield
        finally:
            process.kill()
            process.wait(10)


async def test_a_real_collector_shows_prometheus_the_names_of_metrics(
    project: Project, js: RawJetStream, tmp_path: Path
) -> None:
    if not os.environ.get("JAEGER_BIN"):
        pytest.skip("JAEGER_BIN does not name a Jaeger binary: no metric was sent to a real collector")
    otlp, page = free_port(), free_port()
    with real_collector(tmp_path, otlp, page):
        await run(
            project,
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"http://127.0.0.1:{otlp}/v1/metrics",
            OTEL_METRIC_EXPORT_INTERVAL="100",
        )
        await js.publish("orders.ok", b"x")

        async def shown() -> bool:
            async with httpx.AsyncClient(timeout=30) as asking:
                try:
                    text = (await asking.get(f"http://127.0.0.1:{page}/metrics")).text
                except httpx.TransportError:
                    return False
            acked = r'jetrunner_messages_total\{[^}]*function="charge"[^}]*outcome="ack"[^}]*\} 1(\.0)?$'
            waited = r'jetrunner_wait_seconds_count\{[^}]*function="charge"[^}]*\} 1$'
            return bool(re.search(acked, text, re.MULTILINE) and re.search(waited, text, re.MULTILINE))

        await eventually(shown)
