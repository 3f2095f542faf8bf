"""What an instance says about one message that it holds."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from runner.core import checked
from runner.core.checked import Count, FunctionName, Stream, UnixTime

HoldingStep: TypeAlias = Literal["queued", "behind", "held", "resting", "running", "settling"]
"""`queued`: it waits for a slot; `behind`: for others of its key; `held`: until its shard is taken over; `resting`: for its next
attempt. `running`: its handler runs. `settling`: its handler has ended; outputs or settlement are on their way."""


class Question(Struct, frozen=True):
    """Which message is asked about."""

    stream: Stream
    sequence: Count


class Held(Struct, frozen=True, omit_defaults=True):
    """One message in one function of one instance."""

    function: FunctionName
    step: HoldingStep
    attempt: Count = 1
    since: UnixTime = 0.0
    """When its handler began; 0: it has not begun."""
    due: UnixTime = 0.0
    """When its next attempt is due."""
    ahead: Count = 0
    """How many messages of its key run before it here."""
    head: Count = 0
    """The sequence of the first of those."""
    apart: bool = False
    """Whether it runs in a process of its own, because it may have killed another process."""
    late: bool = False
    """Whether its handler has exceeded its time and has not ended."""
    sent_back: bool = False
    """Whether it was sent back to its function."""


Holding: TypeAlias = Annotated[tuple[Held, ...], Meta(max_length=1_000)]

read = checked.json(Question)
"""Decode a question; raises `Unfit`."""
