"""What lets an instance start ordered work, by its own clock.

The invariant: at no moment may two instances start messages of one shard. An instance may start while all of this holds:

Rule 1: its lease is its own: the last confirmed renewal was sent less than `TTL_SECONDS` ago. A renewal is a
        compare-and-set on the revision of the one before, so it is refused once another instance has buried the lease.
Rule 2: its server serves it: the last ping that its server has answered was sent less than `bound` ago. A ping that is sent
        after the server has closed the connection is never answered.
Rule 3: each claim that it holds was confirmed by a compare-and-set since the lease last began anew; and all of them were
        read as they were written, by a request sent less than `CLAIMS_SECONDS` ago: one that the bucket has lost may be taken
        by another after that.
Rule 4: a claim that the bucket has lost is written again only by the instance that has seen it stand within `CLAIMS_SECONDS`,
        and whose lease was not broken since: else another may have taken it before it was lost. It is written over a vacant
        claim (`core/takeover.py`), whose revision tells that no other has stood there since that was judged.

Others keep their side in `core/death.py` (when an instance may be buried) and `core/takeover.py` (when its claims may be taken).
"""

from __future__ import annotations

from math import inf

from msgspec import Struct
from msgspec.structs import replace

TTL_SECONDS = 3.0
"""A lease lasts so long after its renewal was sent."""
BOUND_SECONDS = 0.045
"""The smallest bound B: so long after a ping was sent work may start on its answer."""
LONGEST_BOUND_SECONDS = 1.0
CLAIMS_SECONDS = 6.0
"""So long after the claims were read work may start on them. They are read every 2 s, so that one reading may fail."""
ROUND_TRIPS = 4
"""B is so many round trips to the server, where that is more than `BOUND_SECONDS`."""


def bound(round_trip: float) -> float:
    """Give B for a server whose answer takes `round_trip` seconds; in whole milliseconds, so that it seldom changes."""
    wanted = round(ROUND_TRIPS * round_trip, 3)
    return min(LONGEST_BOUND_SECONDS, max(BOUND_SECONDS, wanted))


class Lease(Struct, frozen=True):
    """An instance's own view of its lease; times are readings of one monotonic clock, in seconds."""

    until: float = -inf
    """When it ends, unless it is renewed."""
    answered: float = -inf
    """When the last answered ping was sent."""
    bound: float = BOUND_SECONDS
    """B: what the lease in the bucket says, or less."""
    since: float = inf
    """From when on the lease has been ours without a gap."""
    confirmed: float = -inf
    """When the last confirmation of all claims began that has succeeded."""
    read: float = -inf
    """When the last reading of the claims was sent that has found those that are held as they were written."""
    unbroken: bool = False
    """Whether there was no gap since all claims were confirmed: no other instance can have buried this one since."""
    lasted: float = -inf
    """When the lease ended that was lost last."""

    def began(self, sent: float, now: float, bound: float) -> Lease:
        """Take the answer, at `now`, to a lease written at `sent` without regard to what stood there before."""
        unbroken = self.unbroken and now < self.lasted  # else another may have buried the one of before
        return replace(self, until=sent + TTL_SECONDS, bound=bound, since=now, unbroken=unbroken)

    def renewed(self, sent: float, now: float, bound: float) -> Lease:
        """Take the answer to a compare-and-set sent at `sent`: no other instance has written the lease since the last one.

        The first one on a new connection begins it anew: the server may have come back with an older bucket.
        """
        return replace(self, until=sent + TTL_SECONDS, bound=bound, since=min(now, self.since))

    def renewing(self, bound: float) -> Lease:
        """A renewal leaves that says `bound`: the smaller one counts until it is confirmed, for both may stand in the bucket."""
        return replace(self, bound=min(self.bound, bound))

    def pinged(self, sent: float) -> Lease:
        """Take the answer to a ping."""
        return replace(self, answered=max(sent, self.answered))

    def disconnected(self) -> Lease:
        """The connection is lost: nothing starts before a renewal on the next one."""
        return Lease(bound=self.bound)

    def lost(self) -> Lease:
        """A renewal was refused: others may have taken what we own."""
        lasted = max(self.until, self.lasted)
        return Lease(answered=self.answered, bound=self.bound, unbroken=self.unbroken, lasted=lasted)

    def claims_confirmed(self, began: float) -> Lease:
        """Every claim that is held was confirmed by requests sent at `began` or later."""
        return replace(
            self,
            confirmed=max(began, self.confirmed),
            read=max(began, self.read),
            unbroken=self.unbroken or began >= self.since,
        )

    def claims_read(self, began: float) -> Lease:
        """Every claim on which work may start stood as it was written, by a request sent at `began` or later."""
        return replace(self, read=max(began, self.read))

    @property
    def claims_current(self) -> bool:
        """Whether the claims were confirmed since the lease began."""
        return self.since <= self.confirmed

    @property
    def asks_until(self) -> float:
        """Until when messages may be asked for."""
        return self.until if self.claims_current else -inf

    @property
    def starts_until(self) -> float:
        """Until when messages may start."""
        return (
            min(self.until, self.answered + self.bound, self.read + CLAIMS_SECONDS)
            if self.claims_current
            else -inf
        )
