"""The trace of a split event: its parts are in the trace of their event, and the span of the gather links to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from runner.telemetry.receiver import Receiver
from runner.telemetry.span import Span
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.conftest import PATIENT
from tests.telemetry.tree import tree

pytestmark = [pytest.mark.server, pytest.mark.anyio]

STREAM = 'name = "SALES"\nsubjects = ["orders.*", "lines.*", "priced.*", "totals.*"]'
FUNCTIONS = """
    from runner import Context, RetryPolicy, consume, gather

    @consume("orders.{id}", output="lines.{id}")
    async def split(order: dict):
        for number in range(3):
            yield {"n": number}

    @consume("lines.{id}", output="priced.{id}")
    async def price(line: dict) -> dict:
        return line

    @gather("priced.{id}", output="totals.{id}", retry=RetryPolicy.fixed(0.05))
    async def total(lines: list[dict], ctx: Context) -> int:
        if ctx.attempt == 1:
            raise OSError("not yet")
        return len(lines)
"""


async def test_a_split_event_is_one_trace_in_which_the_gather_links_to_every_part(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(functions={"sales": FUNCTIONS}, streams={"sales": STREAM}, nats=nats_server.url)
    await project.applied()
    await js.publish("orders.1", {}, {"traceparent": f"00-{7:032x}-{9:016x}-01"})
    with Receiver() as receiver:
        project.start(
            "run", OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, **PATIENT
        )
        spans = receiver.wait(lambda spans: sum(span.trace_id == f"{7:032x}" for span in spans) >= 13, 60)
    spans = [span for span in spans if span.trace_id == f"{7:032x}"]
    lines = tree(spans).splitlines()
    assert lines[0] == "split: split consumer 1/5 ack message.ack"
    assert [line.strip() for line in lines].count("split: send lines.1 producer") == 3
    assert [line.strip() for line in lines].count("price: price consumer 1/5 ack message.ack") == 3
    failed, acked = (line for line in lines if "total: total" in line)
    assert failed.strip().startswith("total: total consumer 1/5 retry error=OSError")
    assert failed.count("link") == 2
    assert acked.strip() == "total: total consumer 2/5 ack message.ack link link"
    (call,) = [span for span in spans if span.name == "total" and not span.failed]
    assert call.attributes["messaging.batch.message_count"] == 3
    parts = {span.span_id for span in spans if span.name.startswith("send priced")}
    assert parts == {call.parent_id, *(link.span_id for link in call.links)}


LACKING = """
    from runner import Context, consume, gather

    @consume("orders.{id}", output="lines.{id}")
    async def split(order: dict):
        for number in range(3):
            yield {"n": number}

    @consume("lines.{id}", output="priced.{id}")
    async def price(line: dict) -> dict | None:
        return line if line["n"] != 1 else None

    @gather("priced.{id}", output="totals.{id}", expires=3)
    async def total(lines: list[dict], ctx: Context) -> int:
        return len(lines)
"""


async def test_an_event_without_one_of_its_parts_stays_in_its_trace_and_says_how_many_are_missing(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream
) -> None:
    project = make_project(functions={"sales": LACKING}, streams={"sales": STREAM}, nats=nats_server.url)
    await project.applied()
    with Receiver() as receiver:
        project.start(
            "run", OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, **PATIENT
        )
        for number in (1, 2, 3):  # of an event whose parts stand still for its three seconds more are missing
            await js.publish("orders.1", {}, {"traceparent": f"00-{number:032x}-{9:016x}-01"})

            def of_event(spans: list[Span], trace: str = f"{number:032x}") -> list[Span]:
                return [span for span in spans if span.trace_id == trace]

            def whole(spans: list[Span]) -> bool:
                names = [span.name for span in of_event(spans)]
                return "send totals.1" in names and names.count("price") == 3

            spans = of_event(await asyncio.to_thread(receiver.wait, whole, 60.0))
            if any(span.attributes.get("jetrunner.gather.missing") == 1 for span in spans):
                break
    lines = tree(spans).splitlines()
    assert lines[0] == "split: split consumer 1/5 ack message.ack"
    assert lines.count("    price: price consumer 1/5 ack message.ack") == 3
    assert lines.count("      price: send priced.1 producer") == 2
    (at,) = [at for at, line in enumerate(lines) if "total: total" in line]
    assert lines[at : at + 2] == [
        "        total: total consumer 1/5 ack message.ack link",
        "          total: send totals.1 producer",
    ]
    (call,) = [span for span in spans if span.name == "total"]
    assert call.attributes["jetrunner.gather.missing"] == 1
    assert call.attributes["messaging.batch.message_count"] == 2
    assert call.attributes["messaging.destination.name"] == "priced.1"
