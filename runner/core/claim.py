"""A claim: which instance owns a shard."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from runner.core import checked
from runner.core.checked import Count, InstanceName, OwnerName, UnixTime


class Claim(msgspec.Struct, frozen=True):
    """The owner of a shard, empty while the shard is free; the epoch rises with every owner."""

    owner: OwnerName
    epoch: Count
    since: UnixTime
    """Unix time."""
    before: Annotated[tuple[InstanceName, ...], Meta(max_length=64)] = ()
    """Earlier owners, the latest first."""
    sealed: Count = 0
    """The turn of the open generation (`core/generation.py`) at which the shard's generation last began to close. An instance that
    knows only an earlier turn does not take the claim."""
    vacant: bool = False
    """Whether this claim was written in the place of one that the bucket has lost. The owner of that one may not know of it yet."""


UNOWNED = Claim("", 0, 0.0)
decode = checked.json(Claim)
