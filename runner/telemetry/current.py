"""The trace that code runs in just now."""

from __future__ import annotations

from opentelemetry import trace


def trace_id() -> str:
    """32 hex digits; empty outside of any."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""
