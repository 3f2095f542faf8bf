"""What lets an instance start ordered work, by its own clock.

The invariant: at no moment may two instances start messages of one shard. An instance may start while all of this holds:

Rule 1: its lease is its own: the last confirmed renewal was sent less than `TTL_SECONDS` ago. A renewal is a
        compare-and-set on the revision of the one before, so it is refused once another instance has buried the lease.
Rule 2: its server serves it: the last ping that its server has answered was sent less than `bound` ago. A ping that is sent
        after the server has closed the connection is never answered.
Rule 3: each claim that it holds was confirmed by a compare-and-set after the lease last began anew. And a request sent less than
        `CLAIMS_SECONDS` ago has read all claims as they were written: a claim that the bucket has lost may be taken by another
        instance after that time.
Rule 4: only the holder writes a lost claim again, and only if it has read the claim within `CLAIMS_SECONDS` and its lease was not
        interrupted since. Else another instance may have taken the claim before it was lost. The holder writes over a vacant claim
        (`core/takeover.py`); the vacant claim's revision shows that no other claim was there since.

What other instances have to observe is in `core/death.py` (when an instance may be buried) and `core/takeover.py` (when its claims
may be taken).
"""

from __future__ import annotations

from math import inf

from msgspec import Struct
from msgspec.structs import replace

TTL_SECONDS = 3.0
"""A lease lasts this long after its renewal was sent."""
BOUND_SECONDS = 0.045
"""The smallest bound B: once a ping was answered, work may start for this long after the ping was sent."""
LONGEST_BOUND_SECONDS = 1.0
CLAIMS_SECONDS = 6.0
"""Work may start for this long after the claims were read. They are read every 2 s, so that a reading may fail."""
ROUND_TRIPS = 4
"""B is this many round trips to the server, and `BOUND_SECONDS` at least."""


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
    """B: the value in the bucket's lease, or less."""
    since: float = inf
    """Since when the lease has been ours without a gap."""
    confirmed: float = -inf
    """When the last successful confirmation of all claims began."""
    read: float = -inf
    """When the last reading of the claims was sent that found all held claims as they were written."""
    unbroken: bool = False
    """Whether there was no gap since all claims were confirmed: no other instance can have buried this one since."""
    lasted: float = -inf
    """Until when the lease lasted that was lost last."""

    def began(self, sent: float, now: float, bound: float) -> Lease:
        """A lease that was written at `sent`, whatever stood there before, is confirmed at `now`."""
        unbroken = self.unbroken and now < self.lasted  # else another may have buried the earlier lease
        return replace(self, until=sent + TTL_SECONDS, bound=bound, since=now, unbroken=unbroken)

    def renewed(self, sent: float, now: float, bound: float) -> Lease:
        """A renewal, a compare-and-set sent at `sent`, is confirmed: no other instance has written the lease since the last one.

        The first renewal on a new connection begins the lease anew: the server may have come back with an older bucket.
        """
        return replace(self, until=sent + TTL_SECONDS, bound=bound, since=min(now, self.since))

    def renewing(self, bound: float) -> Lease:
        """A renewal with `bound` is sent: until it is confirmed, the smaller bound counts, because either may be in the bucket."""
        return replace(self, bound=min(self.bound, bound))

    def pinged(self, sent: float) -> Lease:
        """A ping that was sent at `sent` is answered."""
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
        """Every claim on which work may start was found as it was written, by a request sent at `began` or later."""
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
