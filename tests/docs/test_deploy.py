"""What `deploy/` holds names only metrics that exist, and Prometheus takes it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.process.metrictext import BOUNDS
from tests.support import metrics

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
    assert {*composition["services"]} == {"nats", "flights", "jaeger", "prometheus", "grafana"}
    for service in composition["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in composition["volumes"] or (DEPLOY / source).is_file(), source
    copied = re.findall(r"^COPY (.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for source in " ".join(copied).split():
        assert (DEPLOY.parent / source).exists(), source


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
