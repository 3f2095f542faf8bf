"""The trace and the message that the calling code runs for."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context

from runner.core import acksubject
from runner.telemetry.keys import CURRENT, MESSAGE

_NOTHING = Context()


def trace_id() -> str:
    """The current trace's id in 32 hex digits; empty outside of a trace."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def message() -> dict[str, str | int]:
    """The function, the message as `STREAM:SEQUENCE`, and the attempt; empty outside of an attempt, no message if it is not known."""
    found: Any = CURRENT.get(_NOTHING).get(MESSAGE)
    if found is None:
        return {}
    function, delivery = found
    try:
        place = acksubject.parse(delivery.reply)
    except ValueError:
        return {"function": function, "attempt": delivery.attempt}
    return {
        "function": function,
        "message_id": f"{place.stream}:{place.stream_sequence}",
        "attempt": delivery.attempt,
    }
