"""`runner status`: the last hour of functions that answer requests, over NATS and over HTTP."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.asker import asking
from tests.support.eventually import eventually
from tests.support.health import asked as told
from tests.support.health import number
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

pytestmark = pytest.mark.server

QUOTES = """
    import asyncio

    from runner import Reject, reply, route

    @reply("quotes.{customer}", concurrency=1)
    async def quote(customer: str) -> str:
        if customer == "nobody":
            raise Reject("no customer")
        if customer == "broken":
            raise OSError("no route")
        await asyncio.sleep(0.3 if customer == "slow" else 0.02)
        return customer

    @route("GET", "/orders/{number}")
    async def find(number: int) -> int:
        if number == 404:
            raise Reject("no such order")
        if number == 500:
            raise OSError("no route")
        await asyncio.sleep(0.02)
        return number
"""
PATIENT = "from runner.process import minutes\n\nminutes.LAST_SECONDS = 20.0\n"
"""The last figures are stored, though the server may stand still for a moment: nothing waits for long as a rule."""
OBJECTIVE = "availability=0.5,latency=10s"
AT_ONCE = b"NATS/1.0\r\nJetrunner-Deadline: 20\r\n\r\n"


def hours(project: Project) -> dict[str, dict[str, Any]]:
    found = project.json("status", JETRUNNER_OBJECTIVE=OBJECTIVE)
    return {each["function"]: each["hour"] for each in found["functions"]}


def counts(metrics: str, function: str) -> dict[str, float]:
    """The answers of a function, by code, those that are there."""
    start = 'jetrunner_requests_total{code="'
    found: dict[str, float] = {}
    for line in metrics.splitlines():
        if line.startswith(start) and f'function="{function}"' in line:
            code, value = line.removeprefix(start)[:3], float(line.rpartition(" ")[2])
            found[code] = found.get(code, 0.0) + value
    return {code: value for code, value in found.items() if value}


async def test_an_hours_requests_outlive_the_instances_and_are_those_of_the_metrics(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"quotes": QUOTES, "patient": PATIENT}, nats=nats_server.url)
    health, port = free_port(), free_port()
    process = project.start("run", "--health", f"127.0.0.1:{health}", "--http", f"127.0.0.1:{port}")
    await process.seen("ready: ")
    async with asking(nats_server.url) as asker:
        for customer in ("ada",) * 6 + ("nobody", "broken"):
            await asker.ask(f"quotes.{customer}")
        slow = asker.asked("quotes.slow")
        late = await asker.ask("quotes.late", header=AT_ONCE)
        assert (late.code, late.not_started) == (408, "expired")
        assert (await slow).body == b"slow"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        found = [(await client.get(f"/orders/{each}")).status_code for each in (1, 2, 3, 404, 500, "x")]
        assert found == [200, 200, 200, 422, 500, 422]

    def all_there() -> dict[str, dict[str, Any]]:
        both = hours(project)
        assert (both["quote"]["settled"], both["find"]["settled"]) == (10, 6)
        return both

    both = await eventually(all_there)
    quote, find = both["quote"], both["find"]
    assert [quote[each] for each in ("succeeded", "failures", "refused", "retries", "dead")] == [
        7,
        2,
        1,
        0,
        0,
    ]
    assert [find[each] for each in ("succeeded", "failures", "refused")] == [3, 3, 0]
    assert quote["availability"] == round(7 / 9, 6), "the asker's own fault does not count, a refusal does"
    assert quote["budget"] == {"availability": 0.5556, "latency": 1.0}
    assert (find["availability"], find["budget"]["availability"]) == (0.75, 0.5)
    for hour in (quote, find):
        assert hour["within"] == 1.0
        assert 0.015 < hour["work"]["p95"] <= hour["latency"]["p99"] < 10
    assert quote["latency"]["p99"] > 0.25, "the slow one"

    metrics = (await told(health, "/metrics"))[1]
    assert counts(metrics, "quote") == {"200": 7, "422": 1, "500": 1, "408": 1}
    assert counts(metrics, "find") == {"200": 3, "422": 2, "500": 1}
    for function, started, succeeded in (("quote", 9, 7), ("find", 6, 3)):
        assert number(metrics, f'jetrunner_wait_seconds_count{{function="{function}"}}') == started
        assert number(metrics, f'jetrunner_latency_seconds_count{{function="{function}"}}') == succeeded

    process.signal(signal.SIGTERM)
    assert await process.ended() == 0
    assert hours(project) == both
    lines = project.runner("status", JETRUNNER_OBJECTIVE=OBJECTIVE).stdout.partition("\n\n")[2].splitlines()
    assert lines[0].split()[:5] == ["LAST", "HOUR", "REQUESTS", "FAILURES", "REFUSED"]
    assert [line.split()[:4] for line in lines[1:]] == [["find", "6", "3", "0"], ["quote", "10", "2", "1"]]


async def test_what_waits_for_a_slot_is_part_of_the_latency_and_not_of_the_work(
    make_project: Callable[..., Project], nats_server: NatsServer
) -> None:
    project = make_project(functions={"quotes": QUOTES}, nats=nats_server.url)
    await project.start("run").seen("ready: ")
    async with asking(nats_server.url) as asker:
        first = asker.asked("quotes.slow")
        waits = [asker.asked("quotes.ada") for _ in range(3)]
        for each in (first, *waits):
            assert (await each).code == 0

    def all_there() -> dict[str, Any]:
        found = hours(project)["quote"]
        assert found["settled"] == 4
        return found

    hour = await eventually(all_there)
    assert hour["work"]["p50"] < 0.2 < hour["wait"]["p50"] <= hour["latency"]["p50"]
