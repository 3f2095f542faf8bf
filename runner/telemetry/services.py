"""One OpenTelemetry service for each function, all with one queue; also the sampler, and the trace ids of root spans."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import context as contexts
from opentelemetry.context import Context, get_value
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SynchronousMultiSpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes

from runner.errors import SettingsError
from runner.telemetry import otlp
from runner.telemetry.export import Export
from runner.telemetry.failure import clean
from runner.telemetry.hidingprocessor import HidingProcessor
from runner.telemetry.keys import ADMITTED, SCHEMA, SCOPE, VERSION
from runner.telemetry.ownspan import OwnSpan
from runner.telemetry.settings import TelemetrySettings
from runner.telemetry.spanqueue import Lane


class _Gated(Sampler):
    """A sampler that records all spans that the gate has admitted, whatever the parent's flag. Any other span follows its parent."""

    def __init__(self) -> None:
        self._by_parent = ParentBased(ALWAYS_ON)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if get_value(ADMITTED, parent_context):
            state = get_current_span(parent_context).get_span_context().trace_state
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, state)
        return self._by_parent.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return "JetrunnerGate"


def sampler(name: str, ratio: float) -> Sampler:
    """The sampler that OTEL_TRACES_SAMPLER names; for the empty name our own."""
    match name:
        case "always_on":
            return ALWAYS_ON
        case "always_off":
            return ALWAYS_OFF
        case "traceidratio":
            return TraceIdRatioBased(ratio)
        case "parentbased_always_on":
            return ParentBased(ALWAYS_ON)
        case "parentbased_always_off":
            return ParentBased(ALWAYS_OFF)
        case "parentbased_traceidratio":
            return ParentBasedTraceIdRatio(ratio)
        case _:
            return _Gated()


class TraceIds(RandomIdGenerator):
    """Random ids, unless the thread has set the next ones.

    The ids are not flagged as random: the flag would make `-03` of `-01`, which some readers of headers do not expect.
    """

    def __init__(self) -> None:
        self._thread = threading.local()

    @contextmanager
    def next(self, trace_id: int, span_id: int | None = None) -> Iterator[None]:
        """Set the ids of the spans that this thread starts in the block."""
        self._thread.trace_id, self._thread.span_id = trace_id, span_id
        try:
            yield
        finally:
            self._thread.trace_id = self._thread.span_id = None

    def generate_trace_id(self) -> int:
        """Make the trace id of a root span."""
        return getattr(self._thread, "trace_id", None) or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Make the id of a span."""
        return getattr(self._thread, "span_id", None) or super().generate_span_id()

    def is_trace_id_random(self) -> bool:
        """False; the class says why."""
        return False


LINKS = 10_000
"""Most links of a span: as many as a batch may have messages."""
_LINKS = "OTEL_SPAN_LINK_COUNT_LIMIT"
# Variables that only the SDK obeys: if one is set, the SDK makes all spans.
_SDK_ALONE = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    _LINKS,
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED",
)


class Services:
    """The tracers of all functions; each is made when it is first needed."""

    def __init__(self, settings: TelemetrySettings, project: str, *, one_try: bool = False) -> None:
        try:
            # By default the SDK drops links after 128; the span of a batch has one for each message.
            self._limits = SpanLimits(max_links=None if os.environ.get(_LINKS) else LINKS)
        except ValueError as error:
            raise SettingsError(f"the OTEL_*_LIMIT variables do not fit: {error}") from error
        self.export = Export(settings, one_try=one_try)
        self.ids = TraceIds()
        self._settings = settings
        self._sampler = sampler(settings.sampler, settings.ratio)
        # The user's attributes override ours, except for the service's name.
        self._resource = Resource.create({"service.namespace": project, **dict(settings.resource)})
        self._providers: dict[str, TracerProvider] = {}
        self._lock = threading.Lock()
        self._lanes: dict[str, Lane] = {}
        self.own = self.export.queue is not None and not any(map(os.environ.get, _SDK_ALONE))
        """Whether the runner encodes its own spans; if not, the SDK makes them."""

    def provider(self, service: str) -> TracerProvider:
        """The provider whose `service.name` is `service`, or OTEL_SERVICE_NAME if that is set."""
        name = self._settings.service_name or service
        with self._lock:
            provider = self._providers.get(name)
            if provider is None:
                processors = SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call]  # the SDK left it bare
                processors.add_span_processor(HidingProcessor(self.export.processor))
                provider = self._providers[name] = TracerProvider(
                    sampler=self._sampler,
                    resource=self._resource.merge(Resource({"service.name": name})),
                    shutdown_on_exit=False,
                    active_span_processor=processors,
                    id_generator=self.ids,
                    span_limits=self._limits,
                )
            return provider

    def tracer(self, service: str) -> Tracer:
        """The tracer for Jetrunner's own spans of this service."""
        return self.provider(service).get_tracer(SCOPE, VERSION, SCHEMA)

    def lane(self, service: str) -> Lane | None:
        """The lane for encoded spans of this service; None if the SDK makes them."""
        if not self.own:
            return None
        name = self._settings.service_name or service
        if name not in self._lanes:
            self._lanes[name] = self._new_lane(name)
            self._lanes[name].tells_exceptions = self._settings.exceptions != "logs"
        return self._lanes[name]

    def _new_lane(self, service: str) -> Lane:
        queue = self.export.queue
        assert queue is not None
        resource = self.provider(service).resource
        if any(isinstance(value, str) and clean(value) != value for value in resource.attributes.values()):
            return Lane(service, b"", b"", lambda _lane, _span: None, self.replace)  # OTLP cannot hold it
        scope, context = InstrumentationScope(SCOPE, VERSION, SCHEMA), SpanContext(1, 1, is_remote=False)
        sample = ReadableSpan(
            "", context, resource=resource, start_time=0, end_time=0, instrumentation_scope=scope
        )
        (written,) = encode_spans([sample]).resource_spans
        del written.scope_spans[0].spans[:]
        (scoped,) = written.scope_spans
        del written.scope_spans[:]
        return queue.lane(service, written.SerializeToString(), scoped.SerializeToString(), self.replace)

    def replace(self, own: OwnSpan) -> Span:
        """A span of the SDK that takes the place of an own span that has not ended."""
        wire = trace_pb2.Span.FromString(own.encoded(0))
        trace_id, context = int.from_bytes(own.trace_id, "big"), Context()
        if wire.parent_span_id:
            parent = SpanContext(
                trace_id,
                int.from_bytes(wire.parent_span_id, "big"),
                is_remote=bool(wire.flags & trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK),
                trace_flags=TraceFlags(own.flags),
                trace_state=own.state,
            )
            context = set_span_in_context(NonRecordingSpan(parent))
        links = [
            Link(
                SpanContext(
                    int.from_bytes(each.trace_id, "big"), int.from_bytes(each.span_id, "big"), is_remote=True
                )
            )
            for each in wire.links
        ]
        with self.ids.next(trace_id, int.from_bytes(own.span_id, "big")):
            return self.tracer(own.lane.name).start_span(
                wire.name,
                contexts.set_value(ADMITTED, True, context),
                SpanKind(wire.kind - 1),
                otlp.attributes(wire.attributes),
                links,
                own.start_ns,
            )
