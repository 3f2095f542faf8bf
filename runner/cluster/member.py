"""The value of a lease: an instance's facts about itself, or the note of its death by another instance."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from runner.core import checked
from runner.core.checked import Count, FunctionName, Id, InstanceName
from runner.core.lease import BOUND_SECONDS, LONGEST_BOUND_SECONDS


class Member(msgspec.Struct, frozen=True):
    """The value of a lease."""

    instance: InstanceName
    functions: Annotated[tuple[FunctionName, ...], Meta(max_length=10_000)]
    """The ordered functions that it runs."""
    leaving: bool = False
    """Whether it hands its shards over and takes none."""
    server: Id = ""
    """The id of the server that it is connected to."""
    bound: Annotated[float, Meta(ge=BOUND_SECONDS, le=LONGEST_BOUND_SECONDS)] = BOUND_SECONDS
    """How many seconds after sending a ping the instance may start messages on that ping's answer."""
    state: Literal["alive", "left", "dead"] = "alive"
    """`left` is written by the instance itself, `dead` by another one that has found it dead."""
    written: Count = 0
    """How often the instance has written its lease."""

    def takes(self, function: str) -> bool:
        """Whether the instance takes shards of a function."""
        return function in self.functions and not self.leaving


read_member = checked.json(Member)
"""Reads the value of a lease; raises `Unfit`."""
