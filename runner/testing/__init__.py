"""For tests of user code: a context, a delivery without a server, and functions that run on a real server of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.staged import Staged
from runner.testing.contexts import context

if TYPE_CHECKING:
    from runner.testing.app import App, run
    from runner.testing.delivery import Delivered, deliver
    from runner.testing.ending import Unsettled

__all__ = ["App", "Delivered", "Staged", "Unsettled", "context", "deliver", "run"]

if not TYPE_CHECKING:  # else every misspelt name would have the type Any

    def __getattr__(name: str) -> Any:
        # A test that calls its handler needs no NATS client.
        if name in ("Delivered", "deliver"):
            from runner.testing import delivery  # noqa: PLC0415

            return getattr(delivery, name)
        if name in ("App", "run"):
            from runner.testing import app  # noqa: PLC0415

            return getattr(app, name)
        if name == "Unsettled":
            from runner.testing import ending  # noqa: PLC0415

            return ending.Unsettled
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
