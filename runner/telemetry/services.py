"""One OpenTelemetry service a function, all sharing one queue; which spans are recorded, and the trace ids of roots."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from opentelemetry.context import Context, get_value
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SynchronousMultiSpanProcessor, TracerProvider
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
from opentelemetry.trace import Link, SpanKind, Tracer, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from runner.errors import SettingsError
from runner.telemetry.attempt import ADMITTED
from runner.telemetry.export import Export
from runner.telemetry.hiding import Hiding
from runner.telemetry.settings import TelemetrySettings


class _Gated(Sampler):
    """What the gate admitted is recorded, whatever its parent's flag; any other span follows its parent."""

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
    """The sampler of OTEL_TRACES_SAMPLER; ours for the empty name."""
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
    """Random ids, unless the thread has said what the next root's trace id is.

    It does not claim randomness: the flag for it would make `-03` of `-01`, which some readers of headers do not expect.
    """

    def __init__(self) -> None:
        self._thread = threading.local()

    def next_root(self, trace_id: int | None) -> None:
        """The trace id of roots this thread starts from now on; None: random again."""
        self._thread.trace_id = trace_id

    def generate_trace_id(self) -> int:
        """Make the trace id of a root."""
        return getattr(self._thread, "trace_id", None) or super().generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """Say no: see the class."""
        return False


class Services:
    """The tracer of each function, made when first asked for."""

    def __init__(self, settings: TelemetrySettings, project: str, *, one_try: bool = False) -> None:
        try:
            self._limits = SpanLimits()
        except ValueError as error:
            raise SettingsError(f"the OTEL_*_LIMIT variables do not fit: {error}") from error
        self.export = Export(settings, one_try=one_try)
        self.ids = TraceIds()
        self._settings = settings
        self._sampler = sampler(settings.sampler, settings.ratio)
        # The user's own attributes win over ours, but for the service's name.
        self._resource = Resource.create({"service.namespace": project, **dict(settings.resource)})
        self._providers: dict[str, TracerProvider] = {}
        self._lock = threading.Lock()

    def provider(self, service: str) -> TracerProvider:
        """The provider whose `service.name` is `service`, or OTEL_SERVICE_NAME where that is set."""
        name = self._settings.service_name or service
        with self._lock:
            provider = self._providers.get(name)
            if provider is None:
                processors = SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call]  # the SDK left it bare
                processors.add_span_processor(Hiding(self.export.processor))
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
        """The tracer Jetrunner's own spans of this service come from."""
        return self.provider(service).get_tracer("jetrunner")
