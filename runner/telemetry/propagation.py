"""Carries trace context between NATS headers and OpenTelemetry, by the propagators of OTEL_PROPAGATORS."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from random import getrandbits
from typing import TypeAlias

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TraceHeaders: TypeAlias = list[tuple[str, str]]


class _ByName(Getter[TraceHeaders]):
    """Reads headers in any case: NATS keeps the case of names, and Go's clients write `Traceparent`."""

    def get(self, carrier: TraceHeaders, key: str) -> list[str] | None:
        key = key.lower()
        return [value for name, value in carrier if name.lower() == key] or None

    def keys(self, carrier: TraceHeaders) -> list[str]:
        return [name for name, _ in carrier]


class _Appending(Setter[TraceHeaders]):
    def set(self, carrier: TraceHeaders, key: str, value: str) -> None:
        carrier.append((key, value))


_USUAL = {"traceparent", "tracestate", "baggage"}
"""Names of headers that the default propagators read."""
_NEITHER_ZERO = 1 << 64 | 1
_GETTER = _ByName()
_SETTER = _Appending()


class Propagation:
    """The propagators in use; `warnings` names those that were asked for but are not installed."""

    def __init__(self, names: Iterable[str]) -> None:
        found: list[TextMapPropagator] = []
        warnings: list[str] = []
        for name in names:
            if name == "tracecontext":
                found.append(TraceContextTextMapPropagator())
            elif name == "baggage":
                found.append(W3CBaggagePropagator())
            elif (installed := _installed(name)) is not None:
                found.append(installed)
            else:
                warnings.append(f"OTEL_PROPAGATORS: {name} is not installed and is left out")
        self._propagators = tuple(found)
        self.traceparent = any(isinstance(one, TraceContextTextMapPropagator) for one in found)
        self.fields = frozenset(field.lower() for one in found for field in one.fields)
        """Names of the headers that carry trace context, in lower case."""
        self.usual = {"traceparent"} <= self.fields <= _USUAL
        """Whether only the default propagators are in use, so that a message may need no trace header but `traceparent`."""
        self.warnings = tuple(warnings)

    def extract(self, headers: TraceHeaders) -> Context:
        """The sender's context; empty if the headers hold none, or a malformed one."""
        context = Context()
        for propagator in self._propagators:
            try:
                context = propagator.extract(headers, context, _GETTER)
            except Exception:  # noqa: BLE001, S112  a foreign propagator must not fail the message, nor log at each
                continue
        return context

    def inject(self, context: Context) -> TraceHeaders:
        """Headers that carry `context` on: traceparent, tracestate and baggage, if the context has them."""
        headers: TraceHeaders = []
        for propagator in self._propagators:
            propagator.inject(headers, context, _SETTER)
        return headers


def unsampled() -> str:
    """The `traceparent` of a new trace that is not recorded: it keeps receivers from starting a trace for the message."""
    made = (getrandbits(192) | _NEITHER_ZERO).to_bytes(24, "big").hex()
    return f"00-{made[:32]}-{made[32:]}-00"


def _installed(name: str) -> TextMapPropagator | None:
    for entry in entry_points(group="opentelemetry_propagator", name=name):
        try:
            propagator = entry.load()()
        except Exception:  # noqa: BLE001, S112  counts as not installed, of which the caller warns
            continue
        if isinstance(propagator, TextMapPropagator):
            return propagator
    return None
