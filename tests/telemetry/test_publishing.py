from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.core import traceparent
from runner.telemetry.receiver import Receiver
from runner.telemetry.tracing import Tracing
from tests.telemetry.delivery import SAMPLED, SENDER, TRACE, UNSAMPLED, facts, start
from tests.telemetry.tree import tree


def test_a_publish_is_named_by_its_template_and_belongs_to_the_project(
    tracing: Tracing, receiver: Receiver
) -> None:
    with tracing.publish_span("orders.c1.created", "orders.{customer}.created") as sent:
        sent.stored("ORDERS", 17)
    tracing.flush(60)
    (span,) = receiver.spans()
    assert tree([span]) == "shop: send orders.{customer}.created producer"
    assert span.attributes["messaging.message.id"] == "ORDERS:17"
    assert span.attributes["messaging.destination.name"] == "orders.c1.created"
    assert span.trace_id == sent.trace_id
    assert dict(sent.headers)["traceparent"] == f"00-{span.trace_id}-{span.span_id}-01"


def test_a_publish_inside_an_attempt_is_its_child_and_one_with_headers_theirs(
    tracing: Tracing, receiver: Receiver
) -> None:
    attempt = start(tracing)
    attempt.activate()
    with tracing.publish_span("a.b"), tracing.publish_span("c.d", headers=[SAMPLED]):
        pass
    attempt.deactivate()
    attempt.end_ack()
    tracing.flush(60)
    parents = {span.name: span.parent_id for span in receiver.spans()}
    own = next(span for span in receiver.spans() if span.name == "charge")
    assert parents == {"charge": "", "send a.b": own.span_id, "send c.d": SENDER}


def test_a_publish_that_fails_is_an_error_and_raises(tracing: Tracing, receiver: Receiver) -> None:
    with pytest.raises(ConnectionError), tracing.publish_span("a.b"):
        raise ConnectionError("gone")
    tracing.flush(60)
    assert tree(receiver.spans()) == "shop: send a.b producer error=ConnectionError exception"


def test_a_flood_of_publishes_is_capped_and_its_receivers_do_not_decide_again(
    tracing: Tracing, receiver: Receiver
) -> None:
    tracing.gate.tokens = 1
    tracing.gate.refill(1e12)  # no clock is as late, so nothing is earned meanwhile
    tracing.gate.tokens = 1
    sampled = []
    for _ in range(3):
        with tracing.publish_span("a.b") as sent:
            parent = traceparent.parse(dict(sent.headers)["traceparent"])
            assert parent is not None
            sampled.append(parent.sampled)
            assert bool(sent.trace_id) is parent.sampled
    assert sampled == [True, False, False]


def test_a_publish_in_an_unsampled_trace_stays_in_it(tracing: Tracing, receiver: Receiver) -> None:
    with tracing.publish_span("a.b", headers=[UNSAMPLED]) as sent:
        assert sent.trace_id == ""
    parent = traceparent.parse(dict(sent.headers)["traceparent"])
    assert parent is not None
    assert (parent.trace_id, parent.sampled) == (TRACE, False)


def test_outputs_of_an_unsampled_message_forward_its_context(tracing: Tracing) -> None:
    raw = facts(("Color", "blue"), UNSAMPLED, ("Tracestate", "a=1"), ("baggage", "b=2"))["header"]
    assert tracing.unsampled_headers(raw, "ORDERS", 17, 1) == [
        UNSAMPLED,
        ("Tracestate", "a=1"),
        ("baggage", "b=2"),
    ]
    assert tracing.unsampled_headers(facts(SAMPLED)["header"], "ORDERS", 17, 1) == [UNSAMPLED]


def test_outputs_of_an_unsampled_message_without_context_share_a_minted_one(tracing: Tracing) -> None:
    first = tracing.unsampled_headers(None, "ORDERS", 17, 1)
    assert first == tracing.unsampled_headers(facts(("Color", "blue"))["header"], "ORDERS", 17, 1)
    assert first != tracing.unsampled_headers(None, "ORDERS", 18, 1)
    parent = traceparent.parse(dict(first)["traceparent"])
    assert parent is not None
    assert parent.trace_id == traceparent.derived_trace_id("ORDERS", 17, 1)
    assert parent.sampled is False


def test_without_the_w3c_propagator_nothing_is_minted(make_tracing: Callable[..., Tracing]) -> None:
    tracing = make_tracing(OTEL_PROPAGATORS="none")
    assert tracing.unsampled_headers(facts(SAMPLED)["header"], "ORDERS", 17, 1) == []
    assert start(tracing, SAMPLED).inject() == []


def test_a_redriven_message_starts_a_new_trace_linked_to_the_one_it_died_in(
    tracing: Tracing, receiver: Receiver
) -> None:
    attempt = start(tracing, SAMPLED)
    dead = attempt.dead_letter("deadletters.shop.charge")
    dead.end(stream="DEADLETTERS", sequence=1)
    attempt.end_dead_letter("rejected")
    with tracing.redrive_span(
        "$JETRUNNER.again.shop.charge", [*dead.headers, ("baggage", "b=2"), ("Color", "blue")]
    ) as redriven:
        redriven.stored("JETRUNNER", 5)
    again = start(tracing, *redriven.headers)
    again.end_ack()
    tracing.flush(60)
    spans = [span for span in receiver.spans() if span.trace_id == redriven.trace_id]
    assert redriven.trace_id != TRACE
    assert tree(spans) == (
        "shop: send $JETRUNNER.again.shop.charge producer link\n  charge: charge consumer 1/5 ack message.ack link"
    )
    died = next(span for span in receiver.spans() if span.name == "send deadletters.shop.charge")
    assert {(link.trace_id, link.span_id) for span in spans for link in span.links} == {(TRACE, died.span_id)}
    assert {span.attributes["jetrunner.origin.trace_id"] for span in spans} == {TRACE}
    assert ("Color", "blue") in redriven.headers
    assert [name.lower() for name, _ in redriven.headers].count("traceparent") == 1


def test_a_message_redriven_twice_points_at_its_latest_death(make_tracing: Callable[..., Tracing]) -> None:
    tracing = make_tracing(OTEL_TRACES_EXPORTER="none")
    latest = ("traceparent", f"00-{'1' * 32}-{SENDER}-01")
    earlier = ("Jetrunner-Origin-Trace", SAMPLED[1])
    with tracing.redrive_span("$JETRUNNER.again.shop.charge", [earlier, latest]) as redriven:
        assert redriven.headers == [("Jetrunner-Origin-Trace", latest[1])]
    with tracing.redrive_span("$JETRUNNER.again.shop.charge", [earlier, ("Color", "blue")]) as redriven:
        assert redriven.headers == [("Color", "blue"), earlier]


def test_a_redrive_without_a_span_of_its_own_is_not_taken_for_the_first_life(
    tracing: Tracing, receiver: Receiver
) -> None:
    origin = ("Jetrunner-Origin-Trace", SAMPLED[1])
    start(tracing).end_dead_letter("rejected")
    start(tracing, origin).end_retry("timeout", 1.0, 2)
    start(tracing, origin, attempt=2).end_ack()
    tracing.flush(60)
    first, second, third = (
        span.trace_id for span in sorted(receiver.spans(), key=lambda span: span.start_ns)
    )
    assert first != second == third
