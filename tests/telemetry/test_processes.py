"""The trace of a handler in a process of its own, and of one whose process dies."""

from __future__ import annotations

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

STREAM = 'name = "JOBS"\nsubjects = ["jobs.*", "done.*"]'
WORK = """
    import os

    from opentelemetry import trace
    from runner import Context, RetryPolicy, consume

    @consume("jobs.{id}", output="done.{id}", executor="process", retry=RetryPolicy.fixed(0.05))
    def work(job: dict, ctx: Context) -> int:
        if ctx.attempt <= job["crashes"]:
            os.abort()
        with trace.get_tracer("shop").start_as_current_span("compute"):
            return 1
"""
DIED = (
    "work: work consumer 1/5 retry error=runner.pipeline.inchild.ChildDied exception "
    "message.nak{delay=0.05,next_attempt=2}\n"
)


ACKED = "work: work consumer 2/5 ack message.ack\n  work: compute internal\n  work: send done.1 producer"
GIVEN_UP = (
    "work: work consumer 2/5 dead_letter error=crashed message.term{reason=crashed}\n"
    "  work: send deadletters.shop.work producer"
)


@pytest.mark.parametrize(("crashes", "enough", "drawn"), [(1, 4, ACKED), (2, 3, GIVEN_UP)])
async def test_a_process_that_dies_is_an_error_of_its_attempt(
    make_project: Callable[..., Project],
    nats_server: NatsServer,
    js: RawJetStream,
    crashes: int,
    enough: int,
    drawn: str,
) -> None:
    project = make_project(functions={"jobs": WORK}, streams={"jobs": STREAM}, nats=nats_server.url)
    await project.applied()
    await js.publish("jobs.1", {"crashes": crashes}, {"traceparent": f"00-{7:032x}-{9:016x}-01"})

    def of_message(spans: list[Span]) -> list[Span]:
        return [span for span in spans if span.trace_id == f"{7:032x}"]

    with Receiver() as receiver:
        project.start(
            "run", OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, **PATIENT
        )
        spans = receiver.wait(lambda spans: len(of_message(spans)) >= enough, 60)
    assert tree(of_message(spans)) == DIED + drawn
