"""Exports that come to `runner dev` go on to a collector, and nobody waits for that."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPResponse
from typing import cast

from runner.telemetry.forwarder import MOST, Forwarder
from runner.telemetry.receiver import Receiver
from runner.telemetry.span import Span
from runner.telemetry.tracing import Tracing
from tests.support.eventually import until
from tests.support.port import free_port


def post(receiver: Receiver, body: bytes) -> int:
    request = urllib.request.Request(f"{receiver.endpoint}/v1/traces", body, {"Tenant": "acme"})
    with cast("HTTPResponse", urllib.request.urlopen(request, timeout=60)) as answer:
        return answer.status


def test_what_is_kept_arrives_at_the_collector_as_it_came(make_tracing: Callable[..., Tracing]) -> None:
    with (
        Receiver() as collector,
        Forwarder(f"{collector.endpoint}/v1/traces") as forward,
        Receiver(forward=forward) as here,
    ):
        tracing = make_tracing(OTEL_EXPORTER_OTLP_ENDPOINT=here.endpoint)
        with tracing.publish_span("orders.c1"):
            pass
        tracing.flush(60)
        (kept,) = here.spans()

        def names(spans: list[Span]) -> list[str]:
            return [each.span_id for each in spans]

        until(lambda: names(collector.spans()) == [kept.span_id])


def test_a_collector_that_is_away_or_hangs_costs_no_export_and_no_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        for port in (free_port(), hanging.getsockname()[1]):
            began = time.monotonic()
            with (
                Forwarder(f"http://127.0.0.1:{port}/v1/traces") as forward,
                Receiver(forward=forward) as here,
            ):
                assert {post(here, b"") for _ in range(3 * MOST)} == {200}
                until(lambda forward=forward: forward.lost > 0)  # type: ignore[misc]
            assert time.monotonic() - began < 9
