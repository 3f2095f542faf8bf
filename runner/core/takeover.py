"""Who may take a shard, and when an owner must stop by itself.

Rule 1: a claim is taken by compare-and-set, and only from nobody or from an owner that is gone: its lease has run out,
    or the server has just lost its connection.
Rule 2: an owner counts its lease from sending the renewal, so by its own clock it ends before the server's does.
Rule 3: after a lapse or a lost connection the claims are read again before anything starts: somebody may have them.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Wait(Struct, frozen=True):
    """It is not ours to take, or not yet."""


class Take(Struct, frozen=True):
    """Write the claim, unless somebody wrote it since it was read; then take the shard over."""

    epoch: int
    """The claim's new one: above every owner's before."""


class Keep(Struct, frozen=True):
    """It is ours and stays ours."""


class HandOver(Struct, frozen=True):
    """It should be another's: let what runs end, then release the claim."""


class Release(Struct, frozen=True):
    """It stands as ours, is not held here and should be another's: a release that did not come through."""


class Lose(Struct, frozen=True):
    """Another has taken it: stop at once, and send nothing more for it."""


Decision: TypeAlias = Wait | Take | Keep | HandOver | Release | Lose


def decide(owner: str, epoch: int, *, me: str, held: int | None, share: str, gone: bool) -> Decision:
    """Decide about one shard, from its claim as just read: `owner` is empty when it was released or never taken.

    `held` is the epoch under which it is held here, `share` who should own it, empty when nobody should; `gone` tells, as of this moment,
    that the owner's lease or connection is.
    """
    if held is not None:
        # A claim older than ours is an old reading.
        if epoch > held or (epoch == held and owner != me):
            return Lose()
        return Keep() if share == me else HandOver()
    if share != me:
        return Release() if owner == me else Wait()
    # A claim of ours that is not held here was written, and the answer lost.
    return Take(epoch + 1) if not owner or owner == me or gone else Wait()


class Lease(Struct, frozen=True):
    """An instance's own view of its lease; times are readings of one monotonic clock, in seconds."""

    until: float = float("-inf")
    """When it ends, unless it is renewed."""
    since: float = float("inf")
    """From when on it has been ours on this connection, without a gap."""
    read: float = float("-inf")
    """When the claims were last asked for, in a reading that succeeded."""

    def renewed(self, sent: float, now: float, ttl: float) -> Lease:
        """Take the answer, at `now`, to a renewal sent at `sent`; later than `until` it tells of a new lease."""
        return Lease(sent + ttl, self.since if now < self.until and self.since <= now else now, self.read)

    def disconnected(self) -> Lease:
        """Hold it no more: the others may find us gone before it ends."""
        return Lease(self.until, float("inf"), self.read)

    def doubted(self, now: float) -> Lease:
        """Others may have taken what we own: start nothing before the claims were read, asked for from `now` on."""
        return Lease(self.until, max(now, self.since), self.read)

    def claims_read(self, sent: float) -> Lease:
        """Take the answer to a reading of the claims that was sent at `sent`."""
        return Lease(self.until, self.since, sent)

    def may_start(self, now: float) -> bool:
        """Tell whether anything of a shard held here may start."""
        return now < self.until and self.since <= self.read
