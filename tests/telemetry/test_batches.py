"""The span of a batch: a trace of its own, with a link to each message's, and from there back to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from textwrap import dedent

import pytest

from runner.telemetry.receiver import Receiver
from runner.telemetry.span import Span
from runner.telemetry.tracing import Tracing
from tests.support.jetstream import RawJetStream
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.conftest import PATIENT
from tests.telemetry.delivery import start
from tests.telemetry.tree import tree

MAKE = 'name = "ROWS"\nsubjects = ["rows.*", "stored.*"]'
STORE = """
    from opentelemetry import trace
    from runner import PartialFailure, Reject, RetryPolicy, consume

    tracer = trace.get_tracer("shop")

    @consume("rows.{table}", output="stored.{table}", batch=3, linger=60.0, ORDERretry=RetryPolicy(attempts=1))
    async def store(rows: list[dict], table: list[str]) -> list[dict]:
        with tracer.start_as_current_span("insert"):
            if bad := {at: Reject("bad") for at, row in enumerate(rows) if row.get("bad")}:
                raise PartialFailure(bad)
            if any(row.get("poison") for row in rows):
                raise OSError("no insert")
        return rows
"""


def traceparent(number: int) -> dict[str, str]:
    return {"traceparent": f"00-{number:032x}-{number:016x}-01"}


async def stored(
    make_project: Callable[..., Project],
    server: NatsServer,
    js: RawJetStream,
    receiver: Receiver,
    *rows: dict[str, int],
    order: str = "",
    enough: int,
) -> list[Span]:
    """The spans of one batch of these rows, once there are enough."""
    project = make_project(
        functions={"store": dedent(STORE.replace("ORDER", order))}, streams={"rows": MAKE}, nats=server.url
    )
    await project.applied()
    for number, row in enumerate(rows, 1):
        await js.publish("rows.a", row, traceparent(number))
    process = project.start(
        "run",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
        OTEL_BSP_SCHEDULE_DELAY="100",
        **PATIENT,
    )
    try:
        return await asyncio.to_thread(receiver.wait, lambda spans: len(spans) >= enough, 60.0)
    finally:
        process.terminate()
        await process.ended()


def of_batches(spans: list[Span]) -> list[Span]:
    return sorted(
        (span for span in spans if "messaging.batch.message_count" in span.attributes),
        key=lambda span: span.start_ns,
    )


@pytest.mark.server
@pytest.mark.anyio
@pytest.mark.parametrize("order", ["", 'ordered_by="table", '])
async def test_a_batch_is_a_trace_of_its_own_and_each_message_keeps_its_own(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    receiver: Receiver,
    order: str,
) -> None:
    spans = await stored(
        make_project, nats_server, js, receiver, {"n": 1}, {"n": 2}, {"n": 3}, order=order, enough=8
    )
    (batch,) = of_batches(spans)
    assert tree([span for span in spans if span.trace_id == batch.trace_id]) == (
        "store: store consumer link link link\n  store: insert internal"
    )
    for number in (1, 2, 3):
        trace = [span for span in spans if span.trace_id == f"{number:032x}"]
        assert tree(trace) == (
            "store: store consumer 1/1 ack message.ack link\n  store: send stored.a producer"
        )
        receipt = next(span for span in trace if span.links)
        assert (receipt.links[0].trace_id, receipt.links[0].span_id) == (batch.trace_id, batch.span_id)
        assert receipt.attributes["jetrunner.batch.trace_id"] == batch.trace_id
        assert receipt.attributes["jetrunner.batch.span_id"] == batch.span_id
        assert (receipt.trace_id, receipt.span_id) in {(each.trace_id, each.span_id) for each in batch.links}
    assert batch.attributes["messaging.batch.message_count"] == 3
    assert batch.attributes["faas.name"] == "store"


@pytest.mark.server
@pytest.mark.anyio
async def test_a_batch_that_fails_is_an_error_and_its_messages_link_to_each_call_they_were_in(
    make_project: Callable[..., Project], nats_server: NatsServer, js: RawJetStream, receiver: Receiver
) -> None:
    rows = {"n": 1}, {"n": 2, "poison": 1}, {"n": 3, "bad": 0}
    spans = await stored(make_project, nats_server, js, receiver, *rows, enough=12)
    whole, half = of_batches(spans)
    assert tree([span for span in spans if span.trace_id == whole.trace_id]) == (
        "store: store consumer error=OSError exception link link link\n"
        "  store: insert internal error=None exception"
    )
    assert half.attributes["messaging.batch.message_count"] == 2
    assert tree([span for span in spans if span.trace_id == f"{1:032x}"]) == (
        "store: store consumer 1/1 ack message.ack link\n"
        "  store: insert internal\n"
        "  store: send stored.a producer"
    ), "alone a message needs no trace but its own"
    assert "link link" in tree([span for span in spans if span.trace_id == f"{3:032x}"])
    assert "dead_letter error=OSError" in tree([span for span in spans if span.trace_id == f"{2:032x}"])


@pytest.mark.server
@pytest.mark.anyio
@pytest.mark.parametrize("order", ["", 'ordered_by="table", '])
async def test_what_a_partial_failure_names_is_an_error_in_its_own_trace_and_the_batch_says_so(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    receiver: Receiver,
    order: str,
) -> None:
    rows = {"n": 1}, {"n": 3}, {"n": 2, "bad": 1}
    spans = await stored(make_project, nats_server, js, receiver, *rows, order=order, enough=6)
    (batch,) = of_batches(spans)
    assert tree([span for span in spans if span.trace_id == batch.trace_id]) == (
        "store: store consumer error=runner.core.signals.PartialFailure exception link link link\n"
        "  store: insert internal error=None exception"
    )
    for number in (1, 2):
        assert tree([span for span in spans if span.trace_id == f"{number:032x}"]) == (
            "store: store consumer 1/1 ack message.ack link"
        )
    assert tree([span for span in spans if span.trace_id == f"{3:032x}"]) == (
        "store: store consumer 1/1 dead_letter error=runner.core.signals.Reject exception "
        "message.term{reason=rejected} link\n"
        "  store: send deadletters.shop.store producer"
    )


@pytest.mark.parametrize("limit", ["", "OTEL_SPAN_EVENT_COUNT_LIMIT"])
def test_the_span_of_a_batch_has_a_link_for_each_of_many_messages(
    make_tracing: Callable[..., Tracing],
    receiver: Receiver,
    limit: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The SDK, which makes the spans where its own limits are set, keeps 128 unless it is told otherwise."""
    if limit:
        monkeypatch.setenv(limit, "1000")
    tracing = make_tracing(OTEL_TRACES_SAMPLER="always_on")
    attempts = [start(tracing, sequence=number) for number in range(500)]
    spans = tracing.spans("charge", "shop-charge", "orders.*", 5)
    batch = spans.batch(500, attempts, str)
    batch.activate()
    batch.leave()
    for each in attempts:
        each.end_ack()
    assert tracing.flush(60)
    (found,) = of_batches(receiver.spans())
    assert len({(link.trace_id, link.span_id) for link in found.links}) == 500
    receipts = [span for span in receiver.spans() if "jetrunner.batch.span_id" in span.attributes]
    assert len(receipts) == 500
    assert {link.span_id for span in receipts for link in span.links} == {found.span_id}
