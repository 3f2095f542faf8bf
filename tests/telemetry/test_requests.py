"""A request, as it arrives at a collector."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.telemetry.receiver import Receiver
from runner.telemetry.span import Span
from tests.support.asker import asking, deadline
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.conftest import PATIENT
from tests.telemetry.delivery import SENDER, TRACE
from tests.telemetry.tree import tree

pytestmark = [pytest.mark.server, pytest.mark.anyio]

SHOP = """
    import asyncio
    from runner import Context, Reject, Retry, consume, reply

    @reply("quotes.{customer}")
    async def quote(customer: str, ctx: Context) -> str:
        await ctx.publish(f"quoted.{customer}", "yes")
        return customer

    @reply("wrong.{how}")
    async def wrong(how: str) -> None:
        if how == "reject":
            raise Reject("no")
        if how == "retry":
            raise Retry("closed")
        if how == "late":
            await asyncio.sleep(60)
        raise OSError("no route")

    @consume("quoted.*")
    async def read(body: str) -> None: ...
"""
QUOTED = 'name = "QUOTED"\nsubjects = ["quoted.*"]\n'


def header(flags: str) -> bytes:
    return f"NATS/1.0\r\ntraceparent: 00-{TRACE}-{SENDER}-{flags}\r\n\r\n".encode()


@pytest.fixture
async def project(
    make_project: Callable[..., Project], nats_server: NatsServer, receiver: Receiver
) -> Project:
    project = make_project(functions={"shop": SHOP}, streams={"quoted": QUOTED}, nats=nats_server.url)
    project.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.endpoint
    project.environment["OTEL_BSP_SCHEDULE_DELAY"] = "100"
    project.environment |= PATIENT
    project.environment["NO_PROXY"] = "127.0.0.1"
    del project.environment["OTEL_TRACES_EXPORTER"]
    await project.applied()
    await project.start("run").seen("ready: ")
    return project


def of(spans: list[Span], function: str) -> list[Span]:
    return [span for span in spans if span.attributes.get("faas.name") == function]


@pytest.mark.usefixtures("project")
async def test_a_request_is_a_server_span_below_who_asked(
    nats_server: NatsServer, receiver: Receiver
) -> None:
    async with asking(nats_server.url) as asker:
        assert (await asker.ask("quotes.ada", b"", header("01"))).body == b"ada"
    spans = receiver.wait(lambda spans: len(of(spans, "read")) == 1 and len(spans) >= 3, timeout=60)
    assert tree(spans) == (
        "quote: quote server\n  quote: send quoted.ada producer\n    read: read consumer 1/5 ack message.ack"
    )
    (span,) = of(spans, "quote")
    assert (span.trace_id, span.parent_id) == (TRACE, SENDER)
    assert span.attributes.pop("server.address") == "127.0.0.1"
    assert isinstance(span.attributes.pop("server.port"), int)
    assert span.attributes == {
        "messaging.system": "nats",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.template": "quotes.{customer}",
        "messaging.destination.name": "quotes.ada",
        "messaging.message.body.size": 0,
        "faas.name": "quote",
        "faas.trigger": "other",
        "jetrunner.code": 200,
    }


@pytest.mark.usefixtures("project")
async def test_a_span_fails_where_the_service_is_to_blame(
    nats_server: NatsServer, receiver: Receiver
) -> None:
    async with asking(nats_server.url) as asker:
        for how in ("reject", "retry", "raise"):
            await asker.ask(f"wrong.{how}")
        await asker.ask("wrong.late", header=deadline(500))
        assert (await asker.ask("wrong.late", header=deadline(0))).not_started == "expired"
    spans = receiver.wait(lambda spans: len(of(spans, "wrong")) >= 4, timeout=60)
    told = {
        str(span.attributes["messaging.destination.name"]): (
            span.attributes["jetrunner.code"], span.failed, span.attributes.get("error.type"),
            [event.name for event in span.events],
        )
        for span in of(spans, "wrong")
    }  # fmt: skip
    assert told == {
        "wrong.reject": (422, False, "Reject", []),
        "wrong.retry": (503, True, "runner.core.signals.Retry", ["exception"]),
        "wrong.raise": (500, True, "OSError", ["exception"]),
        "wrong.late": (408, True, "TimeoutError", ["exception"]),
    }
    assert len({span.trace_id for span in of(spans, "wrong")}) == 4, "each is a trace of its own"


@pytest.mark.usefixtures("project")
async def test_who_asks_decides_and_a_failure_is_shown_all_the_same(
    nats_server: NatsServer, receiver: Receiver
) -> None:
    async with asking(nats_server.url) as asker:
        await asker.ask("quotes.ada", b"", header("00"))
        await asker.ask("wrong.raise", b"", header("00"))
    spans = receiver.wait(lambda spans: len(of(spans, "wrong")) >= 1, timeout=60)
    assert [(span.name, span.trace_id, span.failed) for span in spans] == [("wrong", TRACE, True)]


async def test_its_spans_are_the_same_through_the_sdk(
    project: Project, nats_server: NatsServer, receiver: Receiver
) -> None:
    process = project.start("run", OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="64")
    await process.seen("ready: ")
    async with asking(nats_server.url) as asker:
        for _ in range(20):
            await asker.ask("quotes.ada", b"", header("01"))
    spans = receiver.wait(lambda spans: len(of(spans, "quote")) >= 20, timeout=60)
    assert {
        (span.kind, span.attributes["jetrunner.code"], span.parent_id) for span in of(spans, "quote")
    } == {("server", 200, SENDER)}
