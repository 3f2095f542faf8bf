"""Serverless-style functions on NATS JetStream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner import testing
from runner.bindings import consume
from runner.context import Context
from runner.core.retry import RetryPolicy
from runner.core.signals import PartialFailure, Reject, Retry
from runner.gathers import gather
from runner.hooks import around
from runner.lifespans import lifespan
from runner.replies import reply
from runner.responses import Response
from runner.routes import route
from runner.schedules import cron

if TYPE_CHECKING:
    from runner.blocking import connect_sync
    from runner.client import connect

__all__ = [
    "Context",
    "PartialFailure",
    "Reject",
    "Response",
    "Retry",
    "RetryPolicy",
    "around",
    "connect",
    "connect_sync",
    "consume",
    "cron",
    "gather",
    "lifespan",
    "reply",
    "route",
    "testing",
]

if not TYPE_CHECKING:  # else every misspelt name would have the type Any

    def __getattr__(name: str) -> Any:
        # Handlers and their tests need no NATS client: it is loaded when someone connects.
        if name in ("connect", "connect_sync"):
            from runner import blocking, client  # noqa: PLC0415

            return client.connect if name == "connect" else blocking.connect_sync
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
