"""Where spans come from: the tracer of each service, or one that makes nothing when tracing is off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import Link, NoOpTracer, Span, SpanContext, SpanKind, TraceFlags, Tracer

from runner.core.traceparent import TraceParent
from runner.telemetry.attempt import ADMITTED
from runner.telemetry.gate import Gate
from runner.telemetry.propagation import Propagation
from runner.telemetry.settings import TelemetrySettings

if TYPE_CHECKING:
    from runner.telemetry.services import Services


class SpanSource:
    """The gate, the propagators and the services of one process."""

    def __init__(self, settings: TelemetrySettings, project: str, *, one_try: bool) -> None:
        self.project = project
        self.propagation = Propagation(settings.propagators)
        self.gate = Gate(settings.sampler, traceparent=self.propagation.traceparent, enabled=settings.enabled)
        self.services: Services | None = None
        """None when tracing is off."""
        self._tracers: dict[str, Tracer] = {}
        if settings.enabled:
            # The SDK costs 150 ms and 20 MB.
            from runner.telemetry.services import Services  # noqa: PLC0415  only where it is used

            self.services = Services(settings, project, one_try=one_try)

    def tracer(self, service: str) -> Tracer:
        """The tracer of a function, or of the project for what is sent outside functions."""
        tracer = self._tracers.get(service)
        if tracer is None:
            tracer = NoOpTracer() if self.services is None else self.services.tracer(service)
            self._tracers[service] = tracer
        return tracer

    def start(
        self,
        service: str,
        name: str,
        kind: SpanKind,
        parent: Context,
        attributes: dict[str, str | int],
        *,
        admitted: bool = True,
        origin: TraceParent | None = None,
        root: str = "",
        start_ns: int | None = None,
    ) -> Span:
        """Start a span; `admitted` by the gate: recorded unless OTEL_TRACES_SAMPLER says no.

        `origin` is linked to; `root` is the trace id when `parent` holds no span and the id is not to be random.
        """
        links = None
        if origin is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if origin.sampled else TraceFlags.DEFAULT)
            linked = SpanContext(
                int(origin.trace_id, 16), int(origin.span_id, 16), is_remote=True, trace_flags=flags
            )
            links = [Link(linked)]
            attributes["jetrunner.origin.trace_id"] = origin.trace_id
        context = contexts.set_value(ADMITTED, True, parent) if admitted else parent
        tracer = self.tracer(service)
        if not root or self.services is None:
            return tracer.start_span(name, context, kind, attributes, links, start_ns)
        self.services.ids.next_root(int(root, 16))
        try:
            return tracer.start_span(name, context, kind, attributes, links, start_ns)
        finally:
            self.services.ids.next_root(None)
