"""Spans that the user's own code makes with OpenTelemetry's API: they join the attempt in which they are made.

Outside of a traced attempt no spans are recorded. The handler of a message that is not sampled runs without any context, which
costs nothing, and its spans must not become traces of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from opentelemetry.context import Context, get_value
from opentelemetry.trace import Link, NoOpTracer, Span, SpanKind, Tracer, TracerProvider
from opentelemetry.util._decorator import _agnosticcontextmanager
from opentelemetry.util.types import Attributes

from runner.telemetry.keys import SERVICE

_NOTHING = NoOpTracer()


class UserTracerProvider(TracerProvider):
    """The global provider of a running process: it passes each span to the provider of the function in which the span is made."""

    def __init__(self, provider: Callable[[str], TracerProvider]) -> None:
        self._provider = provider

    def get_tracer(  # noqa: D102  as the API says
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        def tracer(service: str) -> Tracer:
            provider = self._provider(service)
            return provider.get_tracer(
                instrumenting_module_name, instrumenting_library_version, schema_url, attributes
            )

        return _UserTracer(tracer)


class _UserTracer(Tracer):
    def __init__(self, tracer: Callable[[str], Tracer]) -> None:
        self._tracer = tracer
        self._tracers: dict[str, Tracer] = {}

    def _of(self, context: Context | None) -> Tracer:
        service = get_value(SERVICE, context)
        if not isinstance(service, str):
            return _NOTHING
        found = self._tracers.get(service)
        if found is None:
            found = self._tracers[service] = self._tracer(service)
        return found

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        return self._of(context).start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )

    @_agnosticcontextmanager  # the standard library's does not decorate async functions
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        with self._of(context).start_as_current_span(
            name,
            context,
            kind,
            attributes,
            links,
            start_time,
            record_exception,
            set_status_on_exception,
            end_on_exit,
        ) as span:
            yield span
