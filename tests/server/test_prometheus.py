"""A real Prometheus reads what a process tells, with the rules of `deploy/`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.eventually import eventually
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

prometheus = shutil.which("prometheus")
pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(
        prometheus is None, reason="NOT CHECKED: there is no prometheus (Debian's package prometheus has it)"
    ),
]
ALERTS = Path(__file__).parents[2] / "deploy" / "alerts.yaml"
SHOP = """
    from runner import Reject, consume

    @consume("orders.{kind}")
    async def charge(body: bytes, kind: str) -> None:
        if kind == "bad":
            raise Reject("no")
"""


@contextmanager
def running(folder: Path, port: int, target: int) -> Iterator[None]:
    """Prometheus, which reads a process each second."""
    assert prometheus is not None
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {"job_name": "jetrunner", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                prometheus,
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()


async def test_prometheus_reads_the_metrics_their_traces_and_the_alert_rules(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream, tmp_path: Path
) -> None:
    await js.create("ORDERS", ["orders.*"])
    project = make_project(functions={"shop": SHOP}, nats=nats_server.url)
    target, port = free_port(), free_port()
    collector = f"http://127.0.0.1:{free_port()}"
    runner = project.start(
        "run",
        "--health",
        f"127.0.0.1:{target}",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector,
    )
    await runner.seen("ready: ")

    async def told(path: str, **query: str) -> Any:
        async with httpx.AsyncClient(timeout=5) as asking:
            answer = await asking.get(f"http://127.0.0.1:{port}/api/v1/{path}", params=query)
        return answer.raise_for_status().json()["data"]

    async def value(query: str) -> float:
        (series,) = (await told("query", query=query))["result"]
        return float(series["value"][1])

    async def is_now(query: str, wanted: float) -> bool:
        return await value(query) == wanted

    with running(tmp_path, port, target):
        await eventually(lambda: is_now('up{job="jetrunner"}', 1))
        for kind in ("ok", "ok", "bad"):
            await js.publish(f"orders.{kind}", b"x")
        await eventually(lambda: is_now('jetrunner_wait_seconds_count{function="charge"}', 3))
        assert await value('jetrunner_latency_seconds_count{function="charge"}') == 2
        assert await value('jetrunner_messages_total{function="charge",outcome="rejected"}') == 1
        assert await value('jetrunner_latency_seconds_bucket{function="charge",le=~"60|60[.]0"}') == 2

        async def traces() -> list[str]:
            found = await told(
                "query_exemplars", query="jetrunner_duration_seconds_bucket", start="0", end="9e9"
            )
            return [each["labels"]["trace_id"] for series in found for each in series["exemplars"]]

        ids = await eventually(traces)
        assert all(len(each) == 32 for each in ids)

        async def evaluated() -> list[dict[str, Any]]:
            rules = [rule for group in (await told("rules"))["groups"] for rule in group["rules"]]
            assert rules
            assert all(rule["health"] == "ok" for rule in rules), rules
            return rules

        rules = await eventually(evaluated)
        assert len(rules) == ALERTS.read_text().count("- alert: ")
