"""The source of spans: the tracer of each service, or one that makes no spans if tracing is off."""

from __future__ import annotations

from collections.abc import Callable
from random import getrandbits
from time import time_ns
from typing import TYPE_CHECKING, TypeAlias

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NoOpTracer,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    get_current_span,
)

from runner.core import otlp
from runner.core.sampling import taken
from runner.core.traceparent import TraceParent
from runner.telemetry.gate import Gate
from runner.telemetry.keys import ADMITTED
from runner.telemetry.ownspan import RANDOM, SAMPLED, OwnSpan
from runner.telemetry.propagation import Propagation
from runner.telemetry.sdkspan import AnySpan, SdkSpan
from runner.telemetry.settings import TelemetrySettings
from runner.telemetry.spanqueue import Lane

if TYPE_CHECKING:
    from runner.telemetry.services import Services


Attributes: TypeAlias = dict[str, str | int | float]


class SpanSource:
    """The gate, the propagators and the services of one process."""

    def __init__(self, settings: TelemetrySettings, project: str, *, one_try: bool) -> None:
        self.project = project
        self.propagation = Propagation(settings.propagators)
        self.gate = Gate(settings.sampler, traceparent=self.propagation.traceparent, enabled=settings.enabled)
        self.services: Services | None = None
        """The services; None if tracing is off."""
        self._sampler, self._ratio = settings.sampler, settings.ratio
        self._tracers: dict[str, Tracer] = {}
        self.takes_all = settings.sampler in {"", "always_on"}
        """Whether all spans that the gate has admitted are recorded."""
        self.tells_exceptions = settings.exceptions != "logs"
        """Whether exceptions are events of spans."""
        self.server: dict[str, str | int] = {}
        """`server.address` and `server.port` of the NATS server, once connected."""
        if settings.enabled:
            # Importing the SDK costs 150 ms and 20 MB.
            from runner.telemetry.services import Services  # noqa: PLC0415  only where it is used

            self.services = Services(settings, project, one_try=one_try)

    def tracer(self, service: str) -> Tracer:
        """The tracer of a function; or of the project, for messages sent outside of functions."""
        tracer = self._tracers.get(service)
        if tracer is None:
            tracer = NoOpTracer() if self.services is None else self.services.tracer(service)
            self._tracers[service] = tracer
        return tracer

    def lane(self, service: str) -> Lane | None:
        """The lane for spans of a function that the runner encodes; None if the SDK makes them."""
        if self.services is None:
            return None
        return self.services.lane(service)

    def start(
        self,
        service: str,
        name: str,
        kind: SpanKind,
        parent: Context,
        attributes: Attributes,
        *,
        admitted: bool = True,
        origin: TraceParent | None = None,
        root: str = "",
        start_ns: int | None = None,
    ) -> AnySpan:
        """Start a span. If the gate has `admitted` it, it is recorded unless OTEL_TRACES_SAMPLER says no.

        The span links to `origin`; `root` is the trace id if `parent` holds no span and the id must not be random.
        """
        if origin is not None:
            attributes["jetrunner.origin.trace_id"] = origin.trace_id
        lane = self.lane(service)
        if lane is None:
            return self._sdk(service, name, kind, parent, attributes, admitted, origin, root, start_ns)
        parts = [otlp.kind(kind.value + 1, name), otlp.attributes(attributes)]
        if origin is not None:
            parts.append(otlp.link(bytes.fromhex(origin.trace_id), bytes.fromhex(origin.span_id)))
        context = get_current_span(parent).get_span_context()
        above: bool | None = None
        if context.is_valid:
            trace_id = context.trace_id.to_bytes(16, "big")
            of_parent = otlp.parent(context.span_id.to_bytes(8, "big"), remote=context.is_remote)
            above, flags = context.trace_flags.sampled, context.trace_flags & RANDOM
            if context.trace_state:
                parts.append(otlp.state(context.trace_state.to_header()))
        else:
            trace_id = bytes.fromhex(root) if root else (getrandbits(128) or 1).to_bytes(16, "big")
            of_parent, flags = otlp.parent(None, remote=False), 0
        if self.takes(trace_id, above, admitted=admitted):
            flags |= SAMPLED
        span = OwnSpan(
            lane, trace_id, new_id(), of_parent, flags,
            time_ns() if start_ns is None else start_ns, parts,
        )  # fmt: skip
        if context.trace_state:
            span.state = context.trace_state
        return span

    def takes(self, trace_id: bytes, parent: bool | None, *, admitted: bool = True) -> bool:
        """Whether a span of this trace is recorded; `parent` is the parent's sampled flag, None without a parent."""
        return (admitted and not self._sampler) or taken(self._sampler, self._ratio, trace_id, parent)

    def child(
        self, service: str, name: str, parent: AnySpan, context: Callable[[], Context], attributes: Attributes
    ) -> AnySpan:
        """Start the span of a message that an attempt sends; `context` gives the context in which its handler runs."""
        if isinstance(parent, OwnSpan):
            parts = [otlp.kind(otlp.PRODUCER, name), otlp.attributes(attributes)]
            return parent.child(new_id(), time_ns(), parts)
        return SdkSpan(
            self.tracer(service).start_span(name, context(), SpanKind.PRODUCER, attributes),
            tells_exceptions=self.tells_exceptions,
        )

    def _sdk(
        self,
        service: str,
        name: str,
        kind: SpanKind,
        parent: Context,
        attributes: Attributes,
        admitted: bool,
        origin: TraceParent | None,
        root: str,
        start_ns: int | None,
    ) -> SdkSpan:
        links = None
        if origin is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if origin.sampled else TraceFlags.DEFAULT)
            linked = SpanContext(
                int(origin.trace_id, 16), int(origin.span_id, 16), is_remote=True, trace_flags=flags
            )
            links = [Link(linked)]
        context = contexts.set_value(ADMITTED, True, parent) if admitted else parent
        tracer = self.tracer(service)
        if not root or self.services is None:
            return SdkSpan(
                tracer.start_span(name, context, kind, attributes, links, start_ns),
                tells_exceptions=self.tells_exceptions,
            )
        with self.services.ids.next(int(root, 16)):
            return SdkSpan(
                tracer.start_span(name, context, kind, attributes, links, start_ns),
                tells_exceptions=self.tells_exceptions,
            )


def new_id() -> bytes:
    """Make the id of a span."""
    return (getrandbits(64) or 1).to_bytes(8, "big")
