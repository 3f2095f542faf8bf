"""A real Jaeger takes the traces, finds them, and draws them as they are meant."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from runner.telemetry import jaeger, settings
from runner.telemetry.tracing import Tracing
from tests.support.jaeger import running
from tests.support.port import free_port
from tests.telemetry.delivery import facts, start
from tests.telemetry.tree import tree


class Jaeger(NamedTuple):
    collector: str
    api: str

    def ask(self, path: str, **query: str) -> bytes:
        """The answer of the query API; b"" while it is not there, or knows nothing of the trace."""
        url = f"{self.api}{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            error.close()
            return b""
        except OSError:
            return b""

    def poll(self, path: str, enough: Callable[[Any], bool], **query: str) -> Any:
        """The `data` of an answer once it is enough; spans are found a moment after their export."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = self.ask(path, **query)
            if found and enough(data := json.loads(found)["data"] or []):
                return data
            time.sleep(0.05)
        raise AssertionError(f"{path} {query}: {self.ask(path, **query)!r}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    if not os.environ.get("JAEGER_BIN"):
        pytest.skip("JAEGER_BIN does not name a Jaeger binary: nothing here was tested against a real Jaeger")
    otlp, api = free_port(), free_port()
    jaeger = Jaeger(f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{api}")
    with running(tmp_path_factory.mktemp("jaeger"), otlp=otlp, page=api):
        jaeger.poll("/api/services", lambda _: True)
        yield jaeger


@pytest.fixture
def tracing(server: Jaeger) -> Iterator[Tracing]:
    tracing = Tracing(settings.load({"OTEL_EXPORTER_OTLP_ENDPOINT": server.collector}), "shop")
    yield tracing
    tracing.shutdown()


def handled(tracing: Tracing) -> str:
    """One order: published, failed, charged, receipted; its trace id."""
    with tracing.publish_span("orders.c1.created", "orders.{customer}.created") as published:
        published.stored("ORDERS", 1)
    first = start(tracing, *published.headers, sequence=1)
    first.end_retry(ValueError("bank is closed"), 0.2, 2)
    second = start(tracing, *published.headers, sequence=1, attempt=2)
    sent = second.output("payments.c1.charged", "PAYMENTS", template="payments.{customer}.charged")
    sent.end(stream="PAYMENTS", sequence=1)
    second.end_ack()
    last = tracing.start_attempt("receipt", **facts(*sent.headers, stream="PAYMENTS", sequence=1))
    last.end_ack()
    assert tracing.flush()
    return published.trace_id


def test_jaeger_shows_the_tree_that_was_meant(server: Jaeger, tracing: Tracing) -> None:
    trace_id = handled(tracing)
    server.poll(f"/api/traces/{trace_id}", lambda data: bool(data) and len(data[0]["spans"]) == 5)
    spans = jaeger.decode(server.ask(f"/api/traces/{trace_id}"))
    assert tree(spans) == (
        "shop: send orders.{customer}.created producer\n"
        "  charge: charge consumer 1/5 retry error=ValueError exception message.nak{delay=0.2,next_attempt=2}\n"
        "  charge: charge consumer 2/5 ack message.ack\n"
        "    charge: send payments.{customer}.charged producer\n"
        "      receipt: receipt consumer 1/5 ack message.ack"
    )
    assert {span.resource["service.namespace"] for span in spans} == {"shop"}


def test_parents_errors_and_kinds_are_what_jaeger_searches_and_colours_by(
    server: Jaeger, tracing: Tracing
) -> None:
    trace_id = handled(tracing)
    (trace,) = server.poll(f"/api/traces/{trace_id}", lambda data: bool(data) and len(data[0]["spans"]) == 5)
    spans = {span["spanID"]: span for span in trace["spans"]}
    references = [reference for span in spans.values() for reference in span["references"]]
    assert {reference["refType"] for reference in references} == {"CHILD_OF"}
    assert all(reference["spanID"] in spans and reference["traceID"] == trace_id for reference in references)
    tags = [{tag["key"]: (tag["type"], tag["value"]) for tag in span["tags"]} for span in spans.values()]
    assert (
        sorted(one["span.kind"] for one in tags)
        == [("string", "consumer")] * 3 + [("string", "producer")] * 2
    )
    assert [one["error"] for one in tags if "error" in one] == [("bool", True)]
    assert sorted(one["jetrunner.attempt"] for one in tags if "jetrunner.attempt" in one) == [
        ("int64", 1),
        ("int64", 1),
        ("int64", 2),
    ]


def test_each_function_is_a_service_and_a_message_is_found_by_its_id(
    server: Jaeger, tracing: Tracing
) -> None:
    trace_id = handled(tracing)
    services = server.poll("/api/services", lambda found: len(found) >= 3)
    assert {"shop", "charge", "receipt"} <= set(services)
    for service, message in (("shop", "ORDERS:1"), ("charge", "ORDERS:1"), ("receipt", "PAYMENTS:1")):
        tags = json.dumps({"messaging.message.id": message})
        server.poll(
            "/api/traces",
            lambda data: trace_id in {trace["traceID"] for trace in data},
            service=service,
            tags=tags,
            limit="1000",
        )
    found = server.ask("/api/traces", service="charge", tags=json.dumps({"messaging.message.id": "ORDERS:2"}))
    assert json.loads(found)["data"] == []


def test_attempts_without_a_publisher_stand_in_one_trace_without_missing_parents(
    server: Jaeger, tracing: Tracing
) -> None:
    stamp = time.time_ns()
    for attempt in (1, 2):
        start(tracing, attempt=attempt, timestamp_ns=stamp).end_retry("timeout", 1.0, attempt + 1)
    last = start(tracing, attempt=3, timestamp_ns=stamp)
    last.end_ack()
    assert tracing.flush()
    (trace,) = server.poll(
        f"/api/traces/{last.trace_id}", lambda data: bool(data) and len(data[0]["spans"]) == 3
    )
    assert [span["references"] for span in trace["spans"]] == [[], [], []]
    assert [span["warnings"] for span in trace["spans"]] == [None] * 3


def test_a_redriven_message_points_back_at_the_trace_it_died_in(server: Jaeger, tracing: Tracing) -> None:
    attempt = start(tracing, timestamp_ns=time.time_ns())
    dead = attempt.dead_letter("deadletters.shop.charge")
    dead.end(stream="DEADLETTERS", sequence=1)
    attempt.end_dead_letter("rejected")
    with tracing.redrive_span("$JETRUNNER.again.shop.charge", dead.headers) as redriven:
        pass
    start(tracing, *redriven.headers).end_ack()
    assert tracing.flush()
    server.poll(f"/api/traces/{redriven.trace_id}", lambda data: bool(data) and len(data[0]["spans"]) == 2)
    spans = jaeger.decode(server.ask(f"/api/traces/{redriven.trace_id}"))
    assert tree(spans) == (
        "shop: send $JETRUNNER.again.shop.charge producer link\n  charge: charge consumer 1/5 ack message.ack link"
    )
    assert {link.trace_id for span in spans for link in span.links} == {attempt.trace_id}
