"""A claim: which instance owns a shard."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from runner.core import checked
from runner.core.checked import Count, Instance, Owner, UnixTime


class Claim(msgspec.Struct, frozen=True):
    """A shard's owner, empty while it is free; the epoch rises with every owner."""

    owner: Owner
    epoch: Count
    since: UnixTime
    """Unix time."""
    before: Annotated[tuple[Instance, ...], Meta(max_length=64)] = ()
    """Who owned it before, the last one first."""
    sealed: Count = 0
    """The turn of the open generation (`core/generation.py`) at which its generation last began to close: an instance that knows only an
    earlier turn does not take it."""
    vacant: bool = False
    """Written in the place of a claim that the bucket has lost, and whose owner may not know of that yet."""


UNOWNED = Claim("", 0, 0.0)
decode = checked.json(Claim)
