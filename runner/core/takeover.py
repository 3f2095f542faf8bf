"""Who may take a shard's claim.

Rule 1: a claim is taken by compare-and-set on the revision that was read, and only when it is free, or its owner was buried
        after that revision was written (`core/death.py`). Both stand in one bucket, so their revisions tell which was first:
        an owner that came back to life has written its claims again, above its burial.
Rule 2: the claims of a generation are written, free, before it opens. One that is not there may be held by an instance that
        does not know yet that the bucket has lost it: only that instance may write it again at once. Others wait until it has
        been missing for as long as a lease lasts: by then the lease of that instance was refused, or has run out.
Rule 3: the epoch of a claim rises with every owner. One that was missing begins at the Unix time in seconds: epochs do not go
        back with a bucket that lost its claims.
Rule 4: a claim that names this instance, and that it does not hold, is given back, whatever generation it is of.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from runner.core.death import MARGIN_SECONDS
from runner.core.lease import TTL_SECONDS


class Wait(Struct, frozen=True):
    """It is not ours to take, or not yet."""


class Bury(Struct, frozen=True):
    """It is ours to take once its owner was found dead."""


class Take(Struct, frozen=True):
    """Write the claim, unless it was written since it was read; then take the shard over."""


class Keep(Struct, frozen=True):
    """It is ours and stays ours."""


class Confirm(Struct, frozen=True):
    """It is held here, and what was read is not what we wrote: ask by compare-and-set whose it is."""


class HandOver(Struct, frozen=True):
    """It should be another's: let what runs end, then release the claim."""


class Release(Struct, frozen=True):
    """It names us, is not held here and should be another's: a release, or a claim, whose answer was lost."""


Decision: TypeAlias = Wait | Bury | Take | Keep | Confirm | HandOver | Release


class Standing(Struct, frozen=True):
    """A claim as last read."""

    owner: str = ""
    """Empty while it is free."""
    revision: int = 0
    """In the bucket; 0 for one that is not there."""
    sealed: bool = False
    """Whether its generation has closed, as far as this instance knows it."""


def decide(
    standing: Standing,
    *,
    me: str,
    held: int | None,
    share: str,
    buried: int | None,
    living: bool,
    missing: float | None = None,
    disputed: bool = False,
) -> Decision:
    """Decide about one shard, from its claim as last read.

    `held` is the revision under which it is held here; `share` is who should own it, empty for no instance. `buried` is the
    revision of the owner's burial, None when none is known; `living` tells whether the owner's lease is known to stand;
    `missing` for how many seconds there has been no claim that can be read, None where there is one;
    `disputed` whether another instance has tried to write it.
    """
    if held is not None:
        if disputed or (standing.owner, standing.revision) != (me, held):
            return Confirm()
        return Keep() if share == me else HandOver()
    if standing.owner == me:
        return Take() if share == me else Release()
    if share != me or standing.sealed:
        return Wait()
    if missing is not None:
        return Take() if missing >= TTL_SECONDS + MARGIN_SECONDS else Wait()
    if not standing.owner or (buried is not None and buried > standing.revision):
        return Take()
    return Wait() if living else Bury()


def next_epoch(known: int | None, now: float) -> int:
    """Give the epoch of the next owner; `known` is the claim's, None when it was missing; `now` is Unix time."""
    return int(now) if known is None else known + 1


def why_unowned(standing: Standing, *, share: str, living: bool, missing: float | None) -> str:
    """Say in words why no living instance owns an open shard; empty when one does."""
    if missing is not None:
        return "its claim is missing"
    if not standing.owner:
        return (
            f"it is free, and {share} has not taken it"
            if share
            else "it is free, and no instance runs its function"
        )
    return "" if living else f"{standing.owner} owns it, and is not alive"
