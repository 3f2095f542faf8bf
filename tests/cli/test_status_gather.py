"""Split events that wait for parts, and parts that are missing or late, in `runner status` and in the metrics."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.support.eventually import eventually
from tests.support.health import asked
from tests.support.jetstream import RawJetStream
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.anyio]

STREAM = 'name = "SALES"\nsubjects = ["orders.*", "lines.*", "totals.*"]'
FUNCTIONS = """
    from runner import Context, consume, gather

    @consume("orders.{id}", output="lines.{id}")
    async def split(order: dict):
        for number in range(3):
            yield number

    @gather("lines.{id}", output="totals.{id}", expires=EXPIRES)
    async def total(lines: list[int], ctx: Context) -> list[int]:
        return [*ctx.missing]
"""

OFTEN = "from runner.process import rounds\n\nrounds.REMEMBER_SECONDS = 0.5\n"
"""Events are counted so often that one is counted long before its time is over."""


async def parts(js: RawJetStream, *numbers: int, event: str) -> None:
    """Publish these parts of an event of three."""
    for number in numbers:
        headers = {"Jetrunner-Batch": event, "Jetrunner-Index": f"{number}", "Jetrunner-Count": "3"}
        await js.publish("lines.a", b"1", headers)


def events(project: Project) -> dict[str, int]:
    return {name: each["events"] for name, each in project.json("status")["gathering"].items()}


async def test_status_tells_how_many_events_wait_and_since_when(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(
        functions={"sales": FUNCTIONS.replace("EXPIRES", "600")},
        streams={"sales": STREAM},
        nats=nats_server.url,
    )
    await project.applied()
    process = project.start("run")
    await process.seen("ready")
    assert project.json("status")["gathering"] == {}
    await parts(js, 0, event="1" * 32)
    await parts(js, 0, 2, event="2" * 32)
    await eventually(lambda: events(project) == {"total": 2})
    told = project.json("status")["gathering"]["total"]
    assert 0 <= told["oldest_age"] < 60
    assert re.search(
        r"^total: 2 events wait for parts, the oldest for \d+s$",
        project.runner("status").stderr,
        re.MULTILINE,
    )
    await parts(js, 1, event="2" * 32)
    await eventually(lambda: events(project) == {"total": 1})


async def test_metrics_count_events_that_wait_and_parts_that_are_missing_or_late(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(
        functions={"sales": FUNCTIONS.replace("EXPIRES", "15"), "often": OFTEN},
        streams={"sales": STREAM},
        nats=nats_server.url,
    )
    await project.applied()
    port = free_port()
    process = project.start("run", "--health", f"127.0.0.1:{port}")
    await process.seen("ready")

    async def metric(name: str) -> int:
        _, text = await asked(port, "/metrics")
        (value,) = re.findall(rf'^jetrunner_gather_{name}{{function="total"}} (\d+)\.0$', text, re.MULTILINE)
        return int(value)

    async def is_now(name: str, value: int) -> bool:
        return await metric(name) == value

    for name in ("events", "parts_missing_total", "parts_late_total"):
        assert await metric(name) == 0
    await parts(js, 0, event="1" * 32)
    await eventually(lambda: is_now("events", 1))
    await eventually(lambda: is_now("parts_missing_total", 2))
    await eventually(lambda: is_now("events", 0))
    await parts(js, 1, event="1" * 32)
    await eventually(lambda: is_now("parts_late_total", 1))
