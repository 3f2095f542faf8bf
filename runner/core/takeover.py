"""Takeover: which instance may take a shard's claim.

Rule 1: a claim is taken by compare-and-set on the revision that was read, and only when it is free, or its owner was buried after
        that revision was written (`core/death.py`). Claims and burials are in one bucket, so their revisions show which was first:
        an owner that came back has written its claims again, with revisions above its burial.
Rule 2: the claims of a generation are written, free, before it opens. If a claim is missing, an instance may hold it that does not
        know yet that the bucket has lost it. So a vacant claim is written in its place first. Only that instance may write over the
        vacant claim at once (rule 4 of `core/lease.py`). Others wait for `VACANT_SECONDS`: by then that instance starts nothing on
        the lost claim any more. The revision of the vacant claim shows that no other claim was there meanwhile.
Rule 3: the epoch of a claim rises with every owner. A vacant one begins at the Unix time in seconds: epochs do not go back with
        a bucket that lost its claims.
Rule 4: a claim that names this instance, but that the instance does not hold, is released, whatever its generation.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from runner.core.death import MARGIN_SECONDS
from runner.core.lease import CLAIMS_SECONDS

VACANT_SECONDS = CLAIMS_SECONDS + MARGIN_SECONDS
"""A vacant claim that is this old may be taken."""


class Wait(Struct, frozen=True):
    """Do nothing: the claim is not ours to take, or not yet."""


class Bury(Struct, frozen=True):
    """Find out whether the owner is dead: then the claim is ours to take."""


class Vacate(Struct, frozen=True):
    """Write a vacant claim in the place of one that is missing or cannot be read."""


class Take(Struct, frozen=True):
    """Write the claim, unless it was written since it was read; then take the shard over."""


class Keep(Struct, frozen=True):
    """Do nothing: the claim is ours and stays ours."""


class Confirm(Struct, frozen=True):
    """Find out by compare-and-set whose the claim is: it is held here, but is not as we wrote it."""


class HandOver(Struct, frozen=True):
    """Let running messages end, then release the claim: another instance should own it."""


class Release(Struct, frozen=True):
    """Release a claim that names us, but that we do not hold, and another should own: the answer to a write was lost."""


Decision: TypeAlias = Wait | Bury | Vacate | Take | Keep | Confirm | HandOver | Release


class SeenClaim(Struct, frozen=True):
    """A claim as it was last read."""

    owner: str = ""
    """The owner; empty while the claim is free."""
    revision: int = 0
    """The claim's revision in the bucket; 0: there is no claim."""
    readable: bool = True
    """Whether there is a claim that can be read."""
    sealed: bool = False
    """Whether its generation began to close at a later turn than this instance knows of."""
    vacant: float | None = None
    """Seconds since a vacant or unreadable claim was first seen at this revision; None: the claim is neither."""


class Owner(Struct, frozen=True):
    """What is known about the owner that a claim names."""

    living: bool
    """Whether the owner is known to have a lease."""
    buried: int | None = None
    """The revision of the owner's burial; None: no burial is known."""


def decide(
    standing: SeenClaim, owner: Owner, *, me: str, held: int | None, share: str, disputed: bool = False
) -> Decision:
    """Decide about one shard, from its claim as last read.

    `held` is the revision under which this instance holds the claim; `share` is the instance that should own it, empty for none;
    `disputed` tells whether another instance has tried to write the claim.
    """
    vacant, buried = standing.vacant, owner.buried
    if held is not None:
        if disputed or (standing.owner, standing.revision) != (me, held):
            return Confirm()
        return Keep() if share == me else HandOver()
    if standing.owner == me:
        return Take() if share == me else Release()
    if share != me or standing.sealed:
        return Wait()
    if not standing.readable and (not standing.revision or (vacant or 0.0) >= VACANT_SECONDS):
        return Vacate()
    if not standing.readable:
        return Wait()  # another release may have written it
    if vacant is not None:
        return Take() if vacant >= VACANT_SECONDS else Wait()
    if not standing.owner or (buried is not None and buried > standing.revision):
        return Take()
    return Wait() if owner.living else Bury()


def why_unowned(standing: SeenClaim, *, share: str, living: bool, vacant: bool) -> str:
    """Say in words why no living instance owns an open shard; empty when one does."""
    if vacant or not standing.readable:
        return "its claim was lost with the bucket"
    if not standing.owner:
        return (
            f"it is free, and {share} has not taken it"
            if share
            else "it is free, and no instance runs its function"
        )
    return "" if living else f"{standing.owner} owns it, and is not alive"
