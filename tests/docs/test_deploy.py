"""What `deploy/` holds names only metrics that exist, and Prometheus takes it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from runner.config import load_settings
from runner.process.metrictext import BOUNDS
from tests.support import metrics
from tests.support.server import binary

DEVELOPMENT = {"_demo.py", "_dev.py", "_failover.py", "_report.py"}
"""Of the example: what runs it here, and not in the image."""
DEPLOY = Path(__file__).parents[2] / "deploy"
promtool = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    promtool is None, reason="NOT CHECKED: there is no promtool (Debian's package prometheus has it)"
)


def document(file: str) -> Any:
    text = (DEPLOY / file).read_text()
    return json.loads(text) if file.endswith(".json") else yaml.safe_load(text)


def rules() -> list[dict[str, Any]]:
    return [rule for group in document("alerts.yaml")["groups"] for rule in group["rules"]]


def questions(panels: list[dict[str, Any]]) -> Iterator[str]:
    for panel in panels:
        for target in panel["targets"]:
            yield target["expr"]


def unknown(expressions: Iterator[str]) -> set[str]:
    named = {name for each in expressions for name in re.findall(r"\bjetrunner_\w+", each)}
    assert len(named) > 5
    return named - metrics.series()


def test_every_metric_that_an_alert_asks_for_exists() -> None:
    assert unknown(rule["expr"] for rule in rules()) == set()


def test_every_alert_says_what_is_wrong_and_how_bad_that_is() -> None:
    for rule in rules():
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in {"page", "ticket", "info"}
    names = [rule["alert"] for rule in rules()]
    assert len({*names}) == len(names)


def test_every_metric_that_the_dashboard_asks_for_exists() -> None:
    dashboard = document("grafana/dashboard.json")
    assert unknown(questions(dashboard["panels"])) == set()
    (functions,) = (each for each in dashboard["templating"]["list"] if each["name"] == "function")
    assert re.findall(r"\bjetrunner_\w+", functions["query"]["query"])[0] in metrics.series()


def test_a_bucket_that_an_alert_asks_for_is_one_of_ours() -> None:
    asked = {float(each) for rule in rules() for each in re.findall(r'le=~"(\d+)\|', rule["expr"])}
    assert asked
    assert asked <= {*BOUNDS}


def test_what_the_composition_mounts_and_builds_is_there() -> None:
    composition = document("compose.yaml")
    assert {*composition["services"]} == {"nats", "flights", "alerts", "jaeger", "prometheus", "grafana"}
    for service in composition["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in composition["volumes"] or (DEPLOY / source).is_file(), source
    copied = re.findall(r"^COPY (.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for source in " ".join(copied).split():
        assert (DEPLOY.parent / source).exists(), source


def test_the_image_has_every_package_that_the_example_imports() -> None:
    (installed,) = re.findall(r"^RUN pip install (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    own = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    there = {re.split(r"[^\w-]", each)[0] for each in (*own, *installed.split())}
    imported = set()
    for file in (DEPLOY.parent / "functions").glob("*.py"):
        if file.name in DEVELOPMENT:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    foreign = imported - sys.stdlib_module_names - {"functions", "runner"}
    assert "httpx" in foreign
    assert foreign <= there


def test_what_the_services_call_each_other_is_where_they_listen() -> None:
    services = document("compose.yaml")["services"]
    (health,) = re.findall(r"--health [\d.]+:(\d+)", (DEPLOY / "Dockerfile").read_text())
    listens = {
        "nats": "4222", "alerts": services["alerts"]["command"][-1], "flights": health, "prometheus": "9090",
    }  # fmt: skip
    environment = services["flights"]["environment"]
    (scraped,) = document("prometheus.yaml")["scrape_configs"][0]["static_configs"][0]["targets"]
    named = [environment["NATS_URL"], environment["ALERTS_URL"], f"http://{scraped}"]
    named += [each["url"] for each in document("grafana/datasources.yaml")["datasources"]]
    named.append(environment["OTEL_EXPORTER_OTLP_ENDPOINT"])
    for url in named:
        there = urlsplit(url)
        ports = {"4318", "16686"} if there.hostname == "jaeger" else {listens[str(there.hostname)]}
        assert str(there.port) in ports, url
    for service in services.values():
        assert {*service.get("depends_on", ())} <= {*services}
        for port in service.get("ports", ()):
            assert re.fullmatch(r"\d+:\d+", port), "a number of base 60 is read otherwise"


def test_the_settings_of_the_example_are_read_from_its_environment() -> None:
    environment = document("compose.yaml")["services"]["flights"]["environment"]
    settings = load_settings(DEPLOY.parent, environ=environment)
    assert settings.nats_url == "nats://nats:4222"
    assert (settings.objective.availability, settings.objective.latency) == (0.999, 1.0)


def test_nats_server_takes_the_command_of_the_composition(tmp_path: Path) -> None:
    service = document("compose.yaml")["services"]["nats"]
    assert service["volumes"] == ["nats:/data"]
    command = [str(tmp_path) if each == "/data" else each for each in service["command"]]
    assert str(tmp_path) in command
    file = tmp_path / "nats.conf"  # without one the server would start
    file.write_text("port: 4222\n")
    command += ["-c", str(file), "-t"]
    done = subprocess.run([binary(), *command], capture_output=True, text=True, check=False, timeout=30)
    assert "is valid" in done.stderr, "of a flag that it does not know it says so, with exit code 0"


@needs_promtool
@pytest.mark.parametrize(("what", "file"), [("rules", "alerts.yaml"), ("config", "prometheus.yaml")])
def test_prometheus_takes_it(what: str, file: str) -> None:
    assert promtool is not None
    done = subprocess.run(
        [promtool, "check", what, file], cwd=DEPLOY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@needs_promtool
@pytest.mark.parametrize("number", range(len(list(questions(document("grafana/dashboard.json")["panels"])))))
def test_prometheus_can_read_every_question_of_the_dashboard(number: int, tmp_path: Path) -> None:
    assert promtool is not None
    asked = list(questions(document("grafana/dashboard.json")["panels"]))[number]
    asked = asked.replace("$__rate_interval", "1m").replace("$function", ".*")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [{"record": "a", "expr": asked}]}]}))
    done = subprocess.run(
        [promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
