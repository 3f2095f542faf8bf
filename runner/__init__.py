"""Serverless-style functions on NATS JetStream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner import testing
from runner.bindings import consume, lifespan
from runner.context import Context
from runner.core.outcome import PartialFailure, Reject, Retry
from runner.core.retry import RetryPolicy

if TYPE_CHECKING:
    from runner.engine import connect, connect_sync

__all__ = [
    "Context",
    "PartialFailure",
    "Reject",
    "Retry",
    "RetryPolicy",
    "connect",
    "connect_sync",
    "consume",
    "lifespan",
    "testing",
]

if not TYPE_CHECKING:  # else every misspelt name would have the type Any

    def __getattr__(name: str) -> Any:
        # Handlers and their tests need no NATS client: it is loaded when someone connects.
        if name in ("connect", "connect_sync"):
            from runner import engine  # noqa: PLC0415

            return getattr(engine, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
