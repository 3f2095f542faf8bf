"""When an instance may be buried: its lease overwritten by compare-and-set, so that its claims may be taken.

Rule 1: from the moment at which a server answers "no responders" for an instance that was connected to it, pings of that
        instance are answered no more, and it starts nothing once its bound B has passed. So it may be buried B after that
        answer, when a second probe has the same answer.
Rule 2: at another server of the cluster "no responders" may also mean that the way there is gone. So a witness at that
        server answers before the first probe and after the second. Between two servers a way that was lost is back after a
        second at the earliest (measured), so it was there all the time when both answers came within `STEADY_SECONDS`.
Rule 3: whoever cannot be reached is buried when its lease has not moved for as long as it lasts, by the clock of the instance
        that looks at it: neither the server's clock nor the absence of the lease counts.
Rule 4: the burial names the revision of the lease that was judged: one that stood when the first probe was sent, and all the
        time since. An instance that has renewed it meanwhile is not buried. In the place of a lease that is not there another
        is written first, for absence has no revision: its owner, if it lives, finds its renewal refused.
"""

from __future__ import annotations

from math import inf

from msgspec import Struct

from runner.core.lease import LONGEST_BOUND_SECONDS, TTL_SECONDS

MARGIN_SECONDS = 0.1
"""Two clocks do not run alike."""
STEADY_SECONDS = 0.9


class Sighting(Struct, frozen=True):
    """A lease as last seen by another instance; times are readings of that instance's monotonic clock."""

    revision: int
    """In the bucket; 0 for a lease that is not there."""
    seen: float
    """When it was first seen at this revision."""
    bound: float = LONGEST_BOUND_SECONDS
    dead: bool = False
    """Buried, or left: until it is written again."""

    def ran_out(self, now: float) -> bool:
        """Tell whether it has stood still for longer than a lease lasts."""
        return bool(self.revision) and not self.dead and now >= self.seen + TTL_SECONDS + MARGIN_SECONDS


class Inquest(Struct, frozen=True):
    """What two probes of one instance have shown, both answered "no responders"."""

    absent: float
    """When the first answer came."""
    again: float
    """When the second probe was sent."""
    near: bool
    """Whether it was connected to our own server."""
    witness: float = inf
    """When the probe of a witness at its server was sent that was answered before the first probe left."""
    witness_again: float = inf
    """When the answer of the same witness came to a probe sent after the second answer."""

    def proves(self, bound: float) -> bool:
        """Tell whether the instance can start nothing any more; `bound` is what its lease says."""
        steady = self.near or self.witness_again - self.witness < STEADY_SECONDS
        return steady and self.again - self.absent >= bound
