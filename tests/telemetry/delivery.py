"""Deliveries to write tests about."""

from __future__ import annotations

from typing import Any

from runner.core import header
from runner.telemetry.attempt import AttemptSpan
from runner.telemetry.tracing import AttemptFacts, Tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENDER = "b7ad6b7169203331"
SAMPLED = ("traceparent", f"00-{TRACE}-{SENDER}-01")
UNSAMPLED = ("traceparent", f"00-{TRACE}-{SENDER}-00")


def facts(*headers: tuple[str, str], attempt: int = 1, **changed: Any) -> AttemptFacts:
    """One delivery of ORDERS:17 to `charge`."""
    known: dict[str, Any] = {
        "durable": "shop-charge",
        "subject": "orders.c1.created",
        "template": "orders.{customer}.created",
        "stream": "ORDERS",
        "sequence": 17,
        "timestamp_ns": 1_700_000_000_000_000_000,
        "attempt": attempt,
        "attempts": 5,
        "header": header.encode(headers) if headers else None,
        "body_size": 12,
        **changed,
    }
    return known  # type: ignore[return-value]  # a table of changes has no types


def start(tracing: Tracing, *headers: tuple[str, str], attempt: int = 1, **changed: Any) -> AttemptSpan:
    """An attempt of `charge` at ORDERS:17 that begins now."""
    return tracing.start_attempt("charge", **facts(*headers, attempt=attempt, **changed))
