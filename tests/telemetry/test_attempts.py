"""What arrives at a collector, scenario by scenario."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from importlib.metadata import version

import pytest
from opentelemetry import trace

from runner.core import header, traceparent
from runner.telemetry.receiver import Receiver
from runner.telemetry.span import Span
from runner.telemetry.tracing import Tracing
from tests.telemetry.collector import Collector
from tests.telemetry.delivery import SAMPLED, SENDER, TRACE, UNSAMPLED, facts, start
from tests.telemetry.tree import tree

Make = Callable[..., Tracing]


def arrived(tracing: Tracing, receiver: Receiver) -> list[Span]:
    assert tracing.flush(60)
    return receiver.spans()


def failure(message: str) -> ValueError:
    """An error with a traceback, as a handler raises it."""
    try:
        raise ValueError(message)  # noqa: TRY301  to be caught is its point
    except ValueError as error:
        return error


def test_one_trace_runs_from_the_publisher_through_an_attempt_to_what_it_sends(
    tracing: Tracing, receiver: Receiver
) -> None:
    with tracing.publish_span("orders.c1.created") as published:
        published.stored("ORDERS", 17)
    attempt = start(tracing, *published.headers)
    sent = attempt.output("payments.c1.charged", "PAYMENTS", template="payments.{customer}.charged")
    sent.end(stream="PAYMENTS", sequence=3)
    attempt.end_ack()
    next_hop = tracing.start_attempt(
        "receipt", **facts(*sent.headers, stream="PAYMENTS", sequence=3, subject="payments.c1.charged")
    )
    next_hop.end_ack()
    spans = arrived(tracing, receiver)
    assert tree(spans) == (
        "shop: send orders.c1.created producer\n"
        "  charge: charge consumer 1/5 ack message.ack\n"
        "    charge: send payments.{customer}.charged producer\n"
        "      receipt: receipt consumer 1/5 ack message.ack"
    )
    assert {span.trace_id for span in spans} == {published.trace_id, attempt.trace_id, next_hop.trace_id}
    assert len({span.trace_id for span in spans}) == 1


def test_an_attempt_tells_what_the_conventions_ask_for(tracing: Tracing, receiver: Receiver) -> None:
    tracing.server = {"server.address": "nats.local", "server.port": 4222}
    start(tracing, SAMPLED, start_ns=1_700_000_001_000_000_000).end_ack()
    (span,) = arrived(tracing, receiver)
    assert span.attributes == {
        "messaging.system": "nats",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders.c1.created",
        "messaging.destination.template": "orders.{customer}.created",
        "messaging.consumer.group.name": "shop-charge",
        "messaging.message.id": "ORDERS:17",
        "messaging.message.body.size": 12,
        "faas.name": "charge",
        "faas.trigger": "pubsub",
        "server.address": "nats.local",
        "server.port": 4222,
        "jetrunner.attempt": 1,
        "jetrunner.attempts": 5,
        "jetrunner.outcome": "ack",
    }
    assert (span.trace_id, span.parent_id, span.start_ns) == (TRACE, SENDER, 1_700_000_001_000_000_000)
    assert span.status == "unset"


def test_attempts_are_siblings_and_the_failed_ones_are_errors(tracing: Tracing, receiver: Receiver) -> None:
    with tracing.publish_span("orders.c1.created") as published:
        pass
    first = start(tracing, *published.headers)
    first.end_retry(failure("bank is closed"), 0.2, 2)
    second = start(tracing, *published.headers, attempt=2)
    second.end_retry(TimeoutError("timed out after 30 s"), 0.4, 3)
    start(tracing, *published.headers, attempt=3).end_ack()
    spans = arrived(tracing, receiver)
    assert tree(spans) == (
        "shop: send orders.c1.created producer\n"
        "  charge: charge consumer 1/5 retry error=ValueError exception message.nak{delay=0.2,next_attempt=2}\n"
        "  charge: charge consumer 2/5 retry error=TimeoutError exception message.nak{delay=0.4,next_attempt=3}\n"
        "  charge: charge consumer 3/5 ack message.ack"
    )
    failed = next(span for span in spans if span.attributes.get("jetrunner.attempt") == 1)
    told = failed.events[0].attributes
    assert (told["exception.type"], told["exception.message"]) == ("ValueError", "bank is closed")
    assert "raise ValueError(message)" in str(told["exception.stacktrace"])
    assert failed.status_message == "ValueError: bank is closed"


def test_a_dead_letter_is_a_child_of_the_last_attempt_and_carries_its_trace(
    tracing: Tracing, receiver: Receiver
) -> None:
    attempt = start(tracing, SAMPLED, attempt=5)
    dead = attempt.dead_letter("deadletters.shop.charge")
    dead.end(stream="DEADLETTERS", sequence=1)
    attempt.end_dead_letter("exhausted", failure("no funds"))
    alert = tracing.start_attempt("alert", **facts(*dead.headers, stream="DEADLETTERS", sequence=1))
    alert.end_ack()
    assert tree(arrived(tracing, receiver)) == (
        "charge: charge consumer 5/5 dead_letter error=ValueError exception message.term{reason=exhausted}\n"
        "  charge: send deadletters.shop.charge producer\n"
        "    alert: alert consumer 1/5 ack message.ack"
    )


@pytest.mark.parametrize("error", [None, "older than 60 s"])
def test_a_message_given_up_without_an_exception_has_its_reason_as_the_error(
    tracing: Tracing, receiver: Receiver, error: str | None
) -> None:
    start(tracing, SAMPLED).end_dead_letter("expired", error)
    (span,) = arrived(tracing, receiver)
    assert (
        tree([span]) == "charge: charge consumer 1/5 dead_letter error=expired message.term{reason=expired}"
    )
    assert span.status_message == (error or "expired")


def test_all_attempts_at_a_message_without_headers_are_roots_of_one_trace(
    tracing: Tracing, receiver: Receiver
) -> None:
    for attempt in (1, 2):
        start(tracing, attempt=attempt).end_retry("interrupted", 0.0, attempt + 1)
    start(tracing, attempt=3).end_ack()
    start(tracing, sequence=18).end_ack()
    spans = arrived(tracing, receiver)
    assert [span.parent_id for span in spans] == [""] * 4
    expected = traceparent.derived_trace_id("ORDERS", 17, 1_700_000_000_000_000_000)
    assert [span.trace_id == expected for span in sorted(spans, key=lambda span: span.start_ns)] == [
        True,
        True,
        True,
        False,
    ]


def test_a_malformed_traceparent_counts_as_none(tracing: Tracing, receiver: Receiver) -> None:
    start(tracing, ("traceparent", f"00-{'0' * 32}-{SENDER}-01"), ("tracestate", "a=1")).end_ack()
    (span,) = arrived(tracing, receiver)
    assert span.parent_id == ""
    assert span.trace_id == traceparent.derived_trace_id("ORDERS", 17, 1_700_000_000_000_000_000)


def test_tracestate_and_baggage_travel_on(tracing: Tracing) -> None:
    attempt = start(
        tracing, ("Traceparent", SAMPLED[1]), ("Tracestate", "vendor=x"), ("Baggage", "tenant=blue")
    )
    for headers in (attempt.inject(), attempt.output("a.b").headers):
        carried = dict(headers)
        assert carried["tracestate"] == "vendor=x"
        assert carried["baggage"] == "tenant=blue"
        parent = traceparent.parse(carried["traceparent"])
        assert parent is not None
        assert (parent.trace_id, parent.sampled) == (TRACE, True)
        assert header.pairs(header.encode(headers)) == headers
    assert tracing.fields == {"traceparent", "tracestate", "baggage", "jetrunner-origin-trace"}


def test_an_output_far_in_the_future_starts_a_trace_of_its_own_with_a_link(
    tracing: Tracing, receiver: Receiver
) -> None:
    attempt = start(tracing, SAMPLED)
    near = attempt.output("reminders.a", delay=300.0)
    far = attempt.output("reminders.b", delay=3600.0)
    assert [name for name, _ in near.headers] == ["traceparent"]
    assert [name for name, _ in far.headers] == ["Jetrunner-Origin-Trace"]
    near.end()
    far.end()
    attempt.end_ack()
    later = tracing.start_attempt("remind", **facts(*far.headers, stream="REMINDERS", sequence=1))
    later.end_ack()
    spans = arrived(tracing, receiver)
    span = next(span for span in spans if span.name == "remind")
    assert span.parent_id == ""
    assert span.trace_id != TRACE
    assert span.attributes["jetrunner.origin.trace_id"] == TRACE
    sender = next(one for one in spans if one.name == "send reminders.b")
    assert [(link.trace_id, link.span_id) for link in span.links] == [(TRACE, sender.span_id)]
    assert sender.attributes["jetrunner.delay"] == 3600.0


def test_after_sixty_four_outputs_the_rest_carry_the_attempt_itself(
    tracing: Tracing, receiver: Receiver
) -> None:
    attempt = start(tracing, SAMPLED)
    sent = [attempt.output(f"parts.{number}", "PARTS") for number in range(70)]
    for one in sent:
        one.end()
    attempt.end_ack()
    assert len(arrived(tracing, receiver)) == 65
    assert {tuple(one.headers) for one in sent[64:]} == {tuple(attempt.inject())}
    assert len({tuple(one.headers) for one in sent[:64]}) == 64


def test_an_output_that_is_not_stored_is_an_error(tracing: Tracing, receiver: Receiver) -> None:
    attempt = start(tracing, SAMPLED)
    attempt.output("a.b", "A").end(error=failure("stream is full"))
    attempt.end_retry("unconfirmed", 1.0, 2)
    assert tree(arrived(tracing, receiver)) == (
        "charge: charge consumer 1/5 retry error=unconfirmed message.nak{delay=1.0,next_attempt=2}\n"
        "  charge: send a.b producer error=ValueError exception"
    )


def test_the_active_attempt_is_current_in_its_task_and_in_threads_started_from_it(tracing: Tracing) -> None:
    attempt = start(tracing, SAMPLED)
    seen: list[int] = []

    def look() -> None:
        seen.append(trace.get_current_span().get_span_context().trace_id)

    attempt.activate()
    look()
    thread = threading.Thread(target=copy_context().run, args=(look,))
    thread.start()
    thread.join()
    attempt.deactivate()
    look()
    attempt.end_ack()
    assert seen == [int(TRACE, 16), int(TRACE, 16), 0]


def test_deactivating_elsewhere_or_twice_does_no_harm(
    tracing: Tracing, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = start(tracing, SAMPLED)
    copy_context().run(attempt.activate)
    attempt.deactivate()
    attempt.deactivate()
    assert not trace.get_current_span().get_span_context().is_valid
    assert caplog.records == []
    attempt.end_ack()


def test_an_error_that_cannot_be_told_is_still_an_error(tracing: Tracing, receiver: Receiver) -> None:
    class Rude(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    start(tracing, SAMPLED).end_retry(Rude(), 1.0, 2)
    start(tracing, SAMPLED).end_retry(failure("half a pair \udc00, and \x00"), 1.0, 2)
    start(tracing, SAMPLED).end_retry(failure("x" * 100_000), 1.0, 2)
    spans = arrived(tracing, receiver)
    assert [span.failed for span in spans] == [True] * 3
    assert max(len(str(value)) for span in spans for value in span.events[0].attributes.values()) <= 16_384


def test_each_function_is_a_service_of_the_project(tracing: Tracing, receiver: Receiver) -> None:
    start(tracing, SAMPLED).end_ack()
    (span,) = arrived(tracing, receiver)
    assert span.resource["service.name"] == "charge"
    assert span.resource["service.namespace"] == "shop"


def test_an_explicit_service_name_is_the_only_service(make_tracing: Make, receiver: Receiver) -> None:
    tracing = make_tracing(OTEL_SERVICE_NAME="web", OTEL_RESOURCE_ATTRIBUTES="service.namespace=eu,zone=a")
    start(tracing, SAMPLED).end_ack()
    with tracing.publish_span("a.b"):
        pass
    spans = arrived(tracing, receiver)
    assert {span.service for span in spans} == {"web"}
    assert {(span.resource["service.namespace"], span.resource["zone"]) for span in spans} == {("eu", "a")}


def test_a_late_attempt_records_the_failure_of_an_unsampled_message_from_when_it_began(
    tracing: Tracing, receiver: Receiver
) -> None:
    began = 1_700_000_001_000_000_000
    for headers in ((UNSAMPLED,), ()):
        assert tracing.gate.admit(None) in (True, False)
        late = tracing.late_attempt("charge", **facts(*headers, start_ns=began))
        assert late is not None
        late.end_retry(failure("no"), 1.0, 2)
    spans = arrived(tracing, receiver)
    assert {span.trace_id for span in spans} == {
        TRACE,
        traceparent.derived_trace_id("ORDERS", 17, 1_700_000_000_000_000_000),
    }
    assert {span.start_ns for span in spans} == {began}


def test_late_attempts_are_few_a_second(tracing: Tracing) -> None:
    made = [tracing.late_attempt("charge", **facts(UNSAMPLED)) for _ in range(30)]
    assert sum(span is not None for span in made) == 20


def test_an_explicit_ratio_decides_all_attempts_at_a_message_alike(
    make_tracing: Make, receiver: Receiver
) -> None:
    tracing = make_tracing(OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0.5")
    taken: dict[int, set[bool]] = {}
    for sequence in range(60):
        for attempt in (1, 2):
            assert tracing.gate.admit(None)
            span = start(tracing, attempt=attempt, sequence=sequence)
            taken.setdefault(sequence, set()).add(span.sampled)
            span.activate()
            sent = span.output("a.b")
            sent.end()
            span.deactivate()
            span.end_retry("timeout", 1.0, 2)
            assert dict(sent.headers)["traceparent"].endswith("-01" if span.sampled else "-00")
    assert all(len(decisions) == 1 for decisions in taken.values())
    assert 10 < sum(decisions == {True} for decisions in taken.values()) < 50
    assert tracing.late_attempt("charge", **facts(UNSAMPLED)) is None
    assert len(arrived(tracing, receiver)) == 4 * sum(decisions == {True} for decisions in taken.values())


def test_always_on_records_what_the_parent_did_not_sample(make_tracing: Make, receiver: Receiver) -> None:
    tracing = make_tracing(OTEL_TRACES_SAMPLER="always_on")
    start(tracing, UNSAMPLED).end_ack()
    (span,) = arrived(tracing, receiver)
    assert (span.trace_id, span.parent_id) == (TRACE, SENDER)


def test_tracing_that_is_turned_off_can_be_asked_all_the_same(make_tracing: Make, receiver: Receiver) -> None:
    tracing = make_tracing(OTEL_TRACES_EXPORTER="none")
    assert tracing.enabled is False
    attempt = start(tracing, SAMPLED)
    attempt.activate()
    attempt.output("a.b").end()
    attempt.deactivate()
    attempt.end_ack()
    tracing.install()
    with tracing.publish_span("a.b") as sent:
        sent.stored("A", 1)
    assert (sent.headers, sent.trace_id) == ([], "")
    assert arrived(tracing, receiver) == []


def test_a_propagator_that_is_not_installed_costs_one_warning(
    make_tracing: Make, caplog: pytest.LogCaptureFixture
) -> None:
    tracing = make_tracing(OTEL_PROPAGATORS="b3,tracecontext")
    assert [record.getMessage() for record in caplog.records] == [
        "OTEL_PROPAGATORS: b3 is not installed and is left out"
    ]
    assert dict(start(tracing, SAMPLED).inject()).keys() == {"traceparent"}


@pytest.mark.parametrize("limit", ["", "100"], ids=["encoded here", "by the SDK"])
def test_the_scope_of_our_spans_tells_their_version_and_schema(
    make_tracing: Make, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", limit)
    with Collector() as collector:
        tracing = make_tracing(OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
        tracing.at("nats://user:secret@nats.internal:4333")
        attempt = start(tracing)
        attempt.output("payments.c1.charged").end()
        attempt.end_ack()
        with tracing.publish_span("orders.c1"):
            pass
        assert tracing.flush(60)
        scopes = [
            each for one in collector.requests() for part in one.resource_spans for each in part.scope_spans
        ]
    assert {(each.scope.name, each.scope.version, each.schema_url) for each in scopes} == {
        ("jetrunner", version("jetrunner"), "https://opentelemetry.io/schemas/1.44.0")
    }
    spans = [span for each in scopes for span in each.spans]
    assert len(spans) == 3
    for span in spans:
        told = {pair.key: pair.value for pair in span.attributes}
        assert told["server.address"].string_value == "nats.internal"
        assert told["server.port"].int_value == 4333
