"""What an instance says of itself in its lease, and what others write over it once it is dead."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from runner.core import checked
from runner.core.checked import Count, Function, Id, Instance
from runner.core.lease import BOUND_SECONDS, LONGEST_BOUND_SECONDS


class Member(msgspec.Struct, frozen=True):
    """A lease's value."""

    instance: Instance
    functions: Annotated[tuple[Function, ...], Meta(max_length=10_000)]
    """The ordered functions that it runs."""
    leaving: bool = False
    """It gives its shards away and takes none."""
    server: Id = ""
    """The id of the server that it is connected to."""
    bound: Annotated[float, Meta(ge=BOUND_SECONDS, le=LONGEST_BOUND_SECONDS)] = BOUND_SECONDS
    """So many seconds after it has sent a ping it starts nothing more on its answer."""
    state: Literal["alive", "left", "dead"] = "alive"
    """`left` is written by itself, `dead` by another instance that has found it so."""
    written: Count = 0
    """How often the instance has written its lease."""

    def takes(self, function: str) -> bool:
        """Whether it takes shards of a function."""
        return function in self.functions and not self.leaving


read_member = checked.json(Member)
"""What stands in a lease; raises `Unfit`."""
