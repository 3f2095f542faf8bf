"""What an instance says of one message that it has in its hands."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from runner.core import checked
from runner.core.checked import Count, Function, Stream, UnixTime

Step: TypeAlias = Literal["queued", "behind", "held", "resting", "running", "settling"]
"""It waits for a slot; behind others of its key; until its shard is taken over; for its next attempt; its handler runs; or that has ended,
and its outputs or its settlement are on their way."""


class Question(Struct, frozen=True):
    """Which message is asked about."""

    stream: Stream
    sequence: Count


class Held(Struct, frozen=True, omit_defaults=True):
    """One message in one function of one instance."""

    function: Function
    step: Step
    attempt: Count = 1
    since: UnixTime = 0.0
    """When its handler began; 0: it has not."""
    due: UnixTime = 0.0
    """When its next attempt is due."""
    ahead: Count = 0
    """Messages of its key that go before it here."""
    head: Count = 0
    """The first of them, by its sequence."""
    apart: bool = False
    """It runs in a process of its own: it may be what killed another."""
    late: bool = False
    """Its handler has had its time, and has not ended."""
    sent_back: bool = False
    """It has come to its function for another time."""


Holding: TypeAlias = Annotated[tuple[Held, ...], Meta(max_length=1_000)]

read = checked.json(Question)
"""What was asked; raises `Unfit`."""
