"""Serverless-style functions on NATS JetStream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner import testing
from runner.bindings import consume, lifespan
from runner.context import Context
from runner.core.outcome import PartialFailure, Reject, Retry
from runner.core.retry import RetryPolicy

if TYPE_CHECKING:
    from runner.engine import connect

__all__ = [
    "Context",
    "PartialFailure",
    "Reject",
    "Retry",
    "RetryPolicy",
    "connect",
    "consume",
    "lifespan",
    "testing",
]

if not TYPE_CHECKING:  # else every misspelt name would have the type Any

    def __getattr__(name: str) -> Any:
        # Handlers and their tests need no NATS client: it is loaded when someone connects.
        if name == "connect":
            from runner.engine import connect  # noqa: PLC0415

            return connect
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
