"""A firing of `@cron`, as it arrives at a collector."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from runner.telemetry.receiver import Receiver
from runner.telemetry.span import Span
from tests.support.project import Project
from tests.support.server import NatsServer
from tests.telemetry.conftest import PATIENT
from tests.telemetry.tree import tree

pytestmark = [pytest.mark.server, pytest.mark.anyio, pytest.mark.since("2.14", "schedules")]

REPORTS = 'name = "REPORTS"\nsubjects = ["reports.*"]\n'
SHOP = """
    from runner import Context, RetryPolicy, consume, cron

    @cron("{schedule}"{options}, output="reports.daily", retry=RetryPolicy.fixed(0.05))
    async def report(ctx: Context) -> str:
        if ctx.attempt == 1:
            raise OSError("no route")
        return ctx.scheduled.isoformat()

    @consume("reports.daily")
    async def read(body: str) -> None: ...
"""


def run(
    make_project: Callable[..., Project],
    server: NatsServer,
    receiver: Receiver,
    schedule: str,
    options: str = "",
) -> Project:
    project = make_project(
        functions={"shop": SHOP.format(schedule=schedule, options=options)},
        streams={"reports": REPORTS},
        nats=server.url,
    )
    project.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.endpoint
    project.environment["OTEL_BSP_SCHEDULE_DELAY"] = "100"
    project.environment |= PATIENT
    project.environment["NO_PROXY"] = "127.0.0.1"
    del project.environment["OTEL_TRACES_EXPORTER"]
    assert project.runner("apply").code == 0
    return project


def of(spans: list[Span], function: str) -> list[Span]:
    return [span for span in spans if span.attributes.get("faas.name") == function]


def whole(spans: list[Span], trace: str) -> bool:
    """Whether a trace has both attempts of `report`, what it sent, and who read that."""
    names = [span.name for span in spans if span.trace_id == trace]
    return names.count("report") == 2 and {"read", "send reports.daily"} <= {*names}


async def test_a_firing_is_one_trace_and_tells_when_it_was_due(
    make_project: Callable[..., Project], nats_server: NatsServer, receiver: Receiver
) -> None:
    project = run(make_project, nats_server, receiver, "0 3 1 1 *", ', timezone="Europe/Berlin"')
    await project.start("run").seen("ready: ")
    for number in (1, 2, 3):  # a command does not wait for who stands still
        assert project.runner("schedule", "fire", "report").code == 0
        found = receiver.wait(lambda spans, number=number: len(of(spans, "read")) >= number, timeout=60)  # type: ignore[misc]
        last = of(found, "read")[-1].trace_id
        receiver.wait(lambda spans, last=last: whole(spans, last), timeout=60)  # type: ignore[misc]
        spans = receiver.trace(last)
        if any(span.name.startswith("send $JETRUNNER") for span in spans):
            break
    assert tree(spans) == (
        "shop: send $JETRUNNER.tick.*.report producer\n"
        "  report: report consumer 1/5 retry error=OSError exception message.nak{delay=0.05,next_attempt=2}\n"
        "  report: report consumer 2/5 ack message.ack\n"
        "    report: send reports.daily producer\n"
        "      read: read consumer 1/5 ack message.ack"
    )
    for span in of(spans, "report"):
        told = span.attributes
        assert (told["faas.trigger"], told["faas.cron"]) == ("timer", "0 3 1 1 *")
        due = datetime.fromisoformat(str(told["faas.time"]))
        assert str(told["faas.time"]).endswith("Z")
        assert abs((datetime.now(UTC) - due).total_seconds()) < 60
    (read,) = of(spans, "read")
    assert read.attributes["faas.trigger"] == "pubsub"
    assert {"faas.cron", "faas.time"} & read.attributes.keys() == set()


async def test_the_attempts_at_a_firing_of_the_server_stand_in_one_trace(
    make_project: Callable[..., Project], nats_server: NatsServer, receiver: Receiver
) -> None:
    project = run(make_project, nats_server, receiver, "@every 1s")
    await project.start("run").seen("ready: ")

    def first_is_whole(spans: list[Span]) -> bool:
        ran = of(spans, "read")
        return bool(ran) and whole(spans, ran[0].trace_id)

    spans = receiver.wait(first_is_whole, timeout=60)
    first = of(spans, "read")[0].trace_id
    assert tree([span for span in spans if span.trace_id == first]) == (
        "report: report consumer 1/5 retry error=OSError exception message.nak{delay=0.05,next_attempt=2}\n"
        "report: report consumer 2/5 ack message.ack\n"
        "  report: send reports.daily producer\n"
        "    read: read consumer 1/5 ack message.ack"
    )
    times = {span.attributes["faas.time"] for span in of(spans, "report") if span.trace_id == first}
    assert len(times) == 1
