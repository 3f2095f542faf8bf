"""Who may take a shard's claim.

Rule 1: a claim is taken by compare-and-set on the revision that was read, and only when it is free, or its owner was buried
        after that revision was written (`core/death.py`). Both stand in one bucket, so their revisions tell which was first:
        an owner that came back to life has written its claims again, above its burial.
Rule 2: the claims of a generation are written, free, before it opens. One that is not there may be held by an instance that
        does not know yet that the bucket has lost it: a vacant claim is written in its place first. Only that instance may
        write over it at once (rule 4 of `core/lease.py`). Others wait until it has stood for `VACANT_SECONDS`: by then that
        instance starts nothing on the lost one any more. Its revision tells that no other claim stood there meanwhile.
Rule 3: the epoch of a claim rises with every owner. A vacant one begins at the Unix time in seconds: epochs do not go back with
        a bucket that lost its claims.
Rule 4: a claim that names this instance, and that it does not hold, is given back, whatever generation it is of.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from runner.core.death import MARGIN_SECONDS
from runner.core.lease import CLAIMS_SECONDS

VACANT_SECONDS = CLAIMS_SECONDS + MARGIN_SECONDS
"""A vacant claim that has stood for so long may be taken."""


class Wait(Struct, frozen=True):
    """It is not ours to take, or not yet."""


class Bury(Struct, frozen=True):
    """It is ours to take once its owner was found dead."""


class Vacate(Struct, frozen=True):
    """It is not there, or cannot be read: write a vacant one in its place."""


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


Decision: TypeAlias = Wait | Bury | Vacate | Take | Keep | Confirm | HandOver | Release


class Standing(Struct, frozen=True):
    """A claim as last read."""

    owner: str = ""
    """Empty while it is free."""
    revision: int = 0
    """In the bucket; 0 for one that is not there."""
    readable: bool = True
    """Whether there is a claim that can be read."""
    sealed: bool = False
    """Whether its generation has closed, as far as this instance knows it."""
    vacant: float | None = None
    """Seconds for which a vacant claim, or one that cannot be read, has stood at this revision; None where it is neither."""


class Owner(Struct, frozen=True):
    """What is known of the owner that a claim names."""

    living: bool
    """Whether its lease is known to stand."""
    buried: int | None = None
    """The revision of its burial; None when none is known."""


def decide(
    standing: Standing, owner: Owner, *, me: str, held: int | None, share: str, disputed: bool = False
) -> Decision:
    """Decide about one shard, from its claim as last read.

    `held` is the revision under which it is held here; `share` is who should own it, empty for no instance; `disputed`
    tells whether another instance has tried to write it.
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
        return Wait()  # it may be another release's
    if vacant is not None:
        return Take() if vacant >= VACANT_SECONDS else Wait()
    if not standing.owner or (buried is not None and buried > standing.revision):
        return Take()
    return Wait() if owner.living else Bury()


def why_unowned(standing: Standing, *, share: str, living: bool, vacant: bool) -> str:
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
