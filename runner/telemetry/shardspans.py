"""Spans of events of shards and keys: another instance takes over a shard, or a message is parked."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, get_current_span

from runner.core import header as headers_of
from runner.core import traceparent
from runner.telemetry import failure
from runner.telemetry.attempt import SentSpan, send_attributes
from runner.telemetry.functionspans import PARTITION
from runner.telemetry.source import SpanSource


def takeover(
    source: SpanSource, function: str, shard: int, instances: tuple[str, str], left: int, start_ns: int
) -> None:
    """Make the span of a takeover, from the claim at `start_ns` until the shard works.

    `instances` are the new owner and the previous one; `left` messages were unsettled.
    """
    if source.services is None or not source.gate.admit(None):
        return
    taker, before = instances
    span = source.start(
        function,
        failure.clean(f"takeover {function}"),
        SpanKind.INTERNAL,
        Context(),
        {
            "faas.name": function,
            PARTITION: str(shard),
            "jetrunner.instance": taker,
            "jetrunner.takeover.from": before,
            "jetrunner.takeover.unsettled": left,
            **source.server,
        },
        start_ns=start_ns,
    )
    span.finish()


def parked(
    source: SpanSource, function: str, subject: str, block: bytes | None, place: tuple[str, int, int]
) -> SentSpan | None:
    """Start the span of a message that is parked, in the trace of its headers; None if it is not traced.

    `place` is its stream, its sequence, and when it was stored.
    """
    if source.services is None or not source.gate.admit(block):
        return None
    parent = source.propagation.extract(headers_of.pairs(block) if block else [])
    root = ""
    if not get_current_span(parent).get_span_context().is_valid:
        root = traceparent.derived_trace_id(*place)
    attributes = {**send_attributes(subject, f"parked.{function}", "PARKED"), **source.server}
    span = source.start(
        function, failure.clean(f"park {function}"), SpanKind.PRODUCER, parent, attributes, root=root
    )
    return SentSpan(span, [])
