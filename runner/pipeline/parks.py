"""What a source of messages can do for a key whose message was given up."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from runner.pipeline.message import Incoming


@runtime_checkable
class Parks(Protocol):
    """A source that keeps order: its keys may be parked."""

    async def park(self, incoming: Incoming) -> None:
        """Returns when the message may be terminated: nothing of its key can overtake it then."""
