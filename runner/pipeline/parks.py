"""The interface of a message source that can park keys."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from runner.pipeline.message import Incoming


@runtime_checkable
class Parks(Protocol):
    """A source that keeps order: its keys may be parked."""

    async def park(self, incoming: Incoming) -> None:
        """Return when the message may be terminated: then no message of its key can overtake it."""
