"""A trace is taken where the SDK's sampler of that name takes it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from runner.core.sampling import taken
from runner.telemetry.services import sampler
from runner.telemetry.settings import SAMPLERS


@given(
    name=st.sampled_from(["", *SAMPLERS]),
    ratio=st.floats(0, 1),
    trace_id=st.integers(1, (1 << 128) - 1),
    parent=st.none() | st.booleans(),
    remote=st.booleans(),
)
def test_it_is_decided_as_by_the_sdk(
    name: str, ratio: float, trace_id: int, parent: bool | None, remote: bool
) -> None:
    context = Context()
    if parent is not None:
        above = SpanContext(trace_id, 1, is_remote=remote, trace_flags=TraceFlags(int(parent)))
        context = set_span_in_context(NonRecordingSpan(above))
    decision = sampler(name, ratio).should_sample(context, trace_id, "a").decision
    sampled = decision.is_sampled()  # type: ignore[no-untyped-call]  # the SDK left it bare
    assert taken(name, ratio, trace_id.to_bytes(16, "big"), parent) == sampled
