"""Spans of messages' ways through nats-servers, beside those of the runner: for `runner trace bridge`."""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from runner.core.hop import Facts, Hop
from runner.telemetry.failure import clean
from runner.telemetry.keys import SCHEMA, SCOPE, VERSION
from runner.telemetry.services import Services

SERVICE = "nats-server"
"""The service of these spans; `service.instance.id` is the server's name."""
MOST_SERVERS = 1_000
"""Most resources that are kept: servers that come and go may have new names each time."""


class Hops:
    """Makes the span of each hop and queues it."""

    def __init__(self, services: Services) -> None:
        self._processor = services.export.processor
        self._scope = InstrumentationScope(SCOPE, VERSION, SCHEMA)
        self._resources: dict[tuple[str, str], Resource] = {}

    def _resource(self, hop: Hop) -> Resource:
        key = hop.server.name, hop.server.ver
        if key not in self._resources:
            if len(self._resources) >= MOST_SERVERS:
                self._resources.clear()
            facts = {"service.name": SERVICE, "service.instance.id": key[0], "service.version": key[1]}
            self._resources[key] = Resource.create(_cleaned(facts))
        return self._resources[key]

    def put(self, hop: Hop) -> None:
        """Queue the span of a hop; returns at once."""
        trace_id, flags = int(hop.parent.trace_id, 16), TraceFlags(TraceFlags.SAMPLED)
        parent = SpanContext(trace_id, int(hop.parent.span_id, 16), is_remote=True, trace_flags=flags)
        context = SpanContext(trace_id, int(hop.span_id, 16), is_remote=False, trace_flags=flags)
        status = Status(StatusCode.ERROR, clean(hop.error)) if hop.error else Status()
        self._processor.on_end(
            ReadableSpan(
                clean(hop.name),
                context,
                parent,
                self._resource(hop),
                _cleaned(hop.facts),
                [Event(each.name, _cleaned(each.facts), each.time_ns) for each in hop.events],
                (),
                SpanKind.SERVER,
                status=status,
                start_time=hop.start_ns,
                end_time=hop.end_ns,
                instrumentation_scope=self._scope,
            )
        )


def _cleaned(facts: Facts) -> dict[str, str]:
    return {name: clean(value) for name, value in facts.items()}
