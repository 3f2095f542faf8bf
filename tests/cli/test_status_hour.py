"""`runner status`: the last hour, over instances that have ended, and what is left of an error budget."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.health import asked, number
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.server

SHOP = """
    import anyio

    from runner import Context, Reject, Retry, RetryPolicy, consume

    @consume("orders.{kind}", retry=RetryPolicy.fixed(0, attempts=3))
    async def charge(body: bytes, kind: str, ctx: Context) -> None:
        if kind == "bad":
            raise Reject("no")
        if kind == "again" and ctx.attempt == 1:
            raise Retry("not yet", after=0)
        await anyio.sleep(0.05)
"""
PATIENT = "from runner.process import minutes\n\nminutes.LAST_SECONDS = 20.0\n"
"""The last figures are stored, though the server may stand still for a moment: nothing waits for long as a rule."""
OBJECTIVE = "availability=0.9,latency=10s"


def of(project: Project) -> dict[str, Any]:
    (function,) = project.json("status", JETRUNNER_OBJECTIVE=OBJECTIVE)["functions"]
    return dict(function)


async def test_an_hours_figures_outlive_the_instances_and_are_those_of_the_metrics(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.*"])
    project = make_project(functions={"shop": SHOP, "patient": PATIENT}, nats=nats_server.url)
    port = free_port()
    first = project.start("run", "--health", f"127.0.0.1:{port}")
    await first.seen("ready: ")
    for kind in ("ok",) * 17 + ("again", "again", "bad"):
        await js.publish(f"orders.{kind}", b"x")

    def settled() -> dict[str, Any]:
        function = of(project)
        assert function["hour"]["settled"] == 20
        return function

    function = await eventually(settled)
    hour = function["hour"]
    assert (hour["succeeded"], hour["dead"], hour["failures"], hour["retries"]) == (19, 1, 3, 2)
    assert hour["availability"] == 0.95
    assert hour["budget"] == {"availability": 0.5, "latency": 1.0}
    assert hour["within"] == 1.0
    assert 0 < hour["wait"]["p50"] <= hour["wait"]["p95"] <= hour["wait"]["p99"] < 10
    assert 0.04 < hour["work"]["p50"] <= hour["work"]["p99"] < 10
    assert function["lag"] == 0
    metrics = (await asked(port, "/metrics"))[1]
    assert number(metrics, 'jetrunner_wait_seconds_count{function="charge"}') == 20
    assert number(metrics, 'jetrunner_latency_seconds_count{function="charge"}') == 19
    assert number(metrics, 'jetrunner_redelivered_total{function="charge"}') == 2
    first.signal(signal.SIGTERM)
    assert await first.ended() == 0
    assert of(project)["hour"] == hour
    second = project.start("run")
    await second.seen("ready: ")
    await js.publish("orders.ok", b"x")
    await eventually(lambda: of(project)["hour"]["settled"] == 21)
    await eventually(lambda: of(project)["acked"] == 1)

    def shown() -> list[str]:
        told = (
            project.runner("status", JETRUNNER_OBJECTIVE=OBJECTIVE).stdout.partition("\n\n")[2].splitlines()
        )
        assert told[1].split()[1] == "21"
        return told

    text = await eventually(shown)
    assert text[0].split() == [
        *[
            "LAST",
            "HOUR",
            "SETTLED",
            "FAILURES",
            "RETRIES",
            "LAG",
            "WAIT",
            "P50",
            "WAIT",
            "P95",
            "WAIT",
            "P99",
            "WORK",
            "P50",
            "WORK",
            "P95",
            "WORK",
            "P99",
        ],
        *["AVAILABLE", "BUDGET", "WITHIN", "10", "s", "BUDGET"],
    ]
    assert text[1].split()[:4] == ["charge", "21", "3", "2"]


async def test_it_is_shown_anew_until_it_is_interrupted(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    await js.create("ORDERS", ["orders.*"])
    project = make_project(functions={"shop": SHOP}, nats=nats_server.url)
    await project.start("run").seen("ready: ")
    watching = project.start("status", "--watch", "--output", "json")

    def shown() -> list[str]:
        found = [line for line in watching.output.splitlines() if line.startswith("{")]
        assert len(found) > 1
        return found

    lines = await eventually(shown)
    watching.signal(signal.SIGINT)
    assert await watching.ended() == 0
    for line in lines:
        assert [each["function"] for each in json.loads(line)["functions"]] == ["charge"]
