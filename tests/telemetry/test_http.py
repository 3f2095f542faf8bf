"""A request over HTTP, as it arrives at a collector."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from runner.telemetry.receiver import Receiver
from runner.telemetry.span import Span
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.conftest import PATIENT
from tests.telemetry.delivery import SENDER, TRACE

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHOP = """
    from runner import reply, route

    @reply("quotes.{customer}")
    async def quote(customer: str) -> str:
        return customer

    @route("GET", "/hello/{name}")
    async def hello(name: str) -> str:
        return name

    @route("PUT", "/orders/{name}", output="orders.{name}")
    async def order(name: str) -> str:
        return name

    @route("GET", "/boom")
    async def boom() -> None:
        raise OSError("a secret")
"""
ROUTES = """
    [[tool.jetrunner.routes]]
    path = "/quotes/{customer}"
    method = "GET"
    request = "quotes.{customer}"

    [[tool.jetrunner.routes]]
    path = "/in/{name}"
    publish = "orders.{name}"
    timeout = "60s"
"""
ORDERS = 'name = "ORDERS"\nsubjects = ["orders.*"]\n'


@pytest.fixture
async def url(make_project: Callable[..., Project], nats_server: NatsServer, receiver: Receiver) -> str:
    project = make_project(functions={"shop": SHOP}, streams={"orders": ORDERS}, nats=nats_server.url)
    project.settings(ROUTES)
    project.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.endpoint
    project.environment["OTEL_BSP_SCHEDULE_DELAY"] = "100"
    project.environment |= PATIENT
    project.environment["NO_PROXY"] = "127.0.0.1"
    del project.environment["OTEL_TRACES_EXPORTER"]
    await project.applied()
    port = free_port()
    await project.start("run", "--http", f"127.0.0.1:{port}").seen("ready: ", within=60)
    return f"http://127.0.0.1:{port}"


def chain(spans: list[Span], last: str) -> list[str]:
    """The names of a span and of those above it, the outermost first."""
    by_id = {span.span_id: span for span in spans}
    names: list[str] = []
    span = next((each for each in spans if each.name == last), None)
    while span is not None:
        names.insert(0, span.name)
        span = by_id.get(span.parent_id or "")
    return names


async def test_one_trace_runs_from_the_client_to_the_function_and_the_stream(
    url: str, receiver: Receiver
) -> None:
    parent = {"traceparent": f"00-{TRACE}-{SENDER}-01"}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for method, path in (
            ("GET", "/hello/a"),
            ("GET", "/quotes/a"),
            ("PUT", "/orders/a"),
            ("POST", "/in/a"),
        ):
            assert (await client.request(method, path, headers=parent)).status_code in (200, 202)
    spans = receiver.wait(lambda found: len(found) >= 10, timeout=60)
    assert {span.trace_id for span in spans} == {TRACE}
    assert chain(spans, "hello") == ["GET /hello/{name}", "hello"]
    assert chain(spans, "quote") == ["GET /quotes/{customer}", "request quotes.*", "quote"]
    sent = [span for span in spans if span.name == "send orders.a"]
    assert sorted(
        chain([*(each for each in spans if each.name != "send orders.a"), each], each.name)[0]
        for each in sent
    ) == [
        "POST /in/{name}",
        "PUT /orders/{name}",
    ]
    top = next(span for span in spans if span.name == "GET /hello/{name}")
    assert top.parent_id == SENDER
    assert top.attributes["http.response.status_code"] == 200
    assert top.attributes["url.path"] == "/hello/a"


async def test_what_the_client_does_not_trace_is_not_traced_here(url: str, receiver: Receiver) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for path in ("/hello/a", "/quotes/a"):
            await client.get(path, headers={"traceparent": f"00-{TRACE}-{SENDER}-00"})
        failed = await client.get("/boom")
    assert failed.status_code == 500
    spans = receiver.wait(lambda found: any(span.name == "boom" for span in found), timeout=60)
    assert TRACE not in {span.trace_id for span in spans}
    top = next(span for span in spans if span.name == "GET /boom")
    assert (top.attributes["error.type"], top.attributes["http.response.status_code"]) == ("500", 500)
