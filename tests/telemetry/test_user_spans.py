"""Spans that user code makes with OpenTelemetry's own API."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

from opentelemetry import trace

from runner.telemetry.receiver import Receiver
from tests.telemetry.conftest import PATIENT
from tests.telemetry.tree import tree

PROGRAM = """
import asyncio, contextvars, os, threading
from opentelemetry import trace

{before}
user = trace.get_tracer("user.code")                       # as a module of functions/ does, before install

@user.start_as_current_span("decorated")
async def decorated():
    user.start_span("deep").end()

from runner.telemetry import settings
from runner.telemetry.tracing import Tracing
tracing = Tracing(settings.load(os.environ), "shop")
tracing.install()

def attempt(function, sequence):
    return tracing.start_attempt(
        function, durable="d", subject="a.b", template="a.*", stream="A", sequence=sequence, timestamp_ns=1,
        attempt=1, attempts=5, header=None, body_size=0,
    )

async def slot(function, sequence):
    span = attempt(function, sequence)
    span.activate()
    with user.start_as_current_span("query"):
        await asyncio.sleep(0)
        await decorated()
        await asyncio.to_thread(lambda: user.start_span("in a thread").end())
    span.deactivate()
    span.end_ack()
    user.start_span("between messages").end()
    with user.start_as_current_span("unsampled message"):
        pass

async def main():
    await asyncio.gather(slot("charge", 1), slot("refund", 2))

asyncio.run(main())
{after}
"""


def run(
    receiver: Receiver, *, before: str = "", after: str = "tracing.flush(60); tracing.shutdown(60)"
) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM).format(before=before, after=after)],
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "PYTHONPATH": ":".join(sys.path), **PATIENT},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_user_spans_nest_in_their_attempt_and_are_of_its_service(receiver: Receiver) -> None:
    assert run(receiver) == ""
    spans = receiver.spans()
    for function in ("charge", "refund"):
        assert tree(span for span in spans if span.service == function) == (
            f"{function}: {function} consumer 1/5 ack message.ack\n"
            f"  {function}: query internal\n"
            f"    {function}: decorated internal\n"
            f"      {function}: deep internal\n"
            f"    {function}: in a thread internal"
        )
    assert {span.service for span in spans} == {"charge", "refund"}


def test_a_provider_the_user_has_set_up_is_left_alone(receiver: Receiver) -> None:
    own = "from opentelemetry.sdk.trace import TracerProvider; trace.set_tracer_provider(TracerProvider())"
    assert run(receiver, before=own) == ""
    assert {span.name for span in receiver.spans()} == {"charge", "refund"}


def test_a_process_ends_soon_after_its_bounded_shutdown(receiver: Receiver) -> None:
    began = time.monotonic()
    hung = "import socket; s = socket.create_server(('127.0.0.1', 0)); os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] = "
    hung += "f'http://127.0.0.1:{s.getsockname()[1]}'"
    assert run(receiver, before=hung.replace("{", "{").replace("}", "}"), after="tracing.shutdown(0.2)") == ""
    assert time.monotonic() - began < 25
    assert not trace.get_current_span().is_recording()
