"""When an instance may be buried: its lease overwritten by compare-and-set, so that its claims may be taken.

Rule 1: a server that answers "no responders" for an instance that was connected to it no longer answers pings of that instance. So
        the instance starts nothing once its bound B has passed. It may be buried B after that answer, when a second probe gets the
        same answer.
Rule 2: for an instance at another server of the cluster, "no responders" may also mean that the route to that server is down. So a
        witness at that server has to answer before the first probe and after the second. A lost route between two servers is back
        after a second at the earliest (measured). So if both answers came within `STEADY_SECONDS`, the route was up all the time.
Rule 3: an instance that cannot be reached is buried when its lease was not renewed for as long as a lease lasts, by the clock of
        the observing instance. Neither the server's clock nor the absence of the lease counts.
Rule 4: the burial names the revision of the lease that was judged; the lease had that revision from the first probe on. So an
        instance that has renewed it meanwhile is not buried. If there is no lease, one is written first, because absence has no
        revision. If the owner of the lost lease is alive, its next renewal is refused.
"""

from __future__ import annotations

from math import inf

from msgspec import Struct

from runner.core.lease import LONGEST_BOUND_SECONDS, TTL_SECONDS

MARGIN_SECONDS = 0.1
"""Seconds added because two clocks do not run at the same speed."""
STEADY_SECONDS = 0.9


class Sighting(Struct, frozen=True):
    """A lease as another instance last saw it; times are readings of that instance's monotonic clock."""

    revision: int
    """The lease's revision in the bucket; 0: there is no lease."""
    seen: float
    """When the lease was first seen at this revision."""
    bound: float = LONGEST_BOUND_SECONDS
    dead: bool = False
    """Whether the lease was buried, or its instance has left; false once the lease is written again."""

    def ran_out(self, now: float) -> bool:
        """Tell whether the lease was not renewed for longer than a lease lasts."""
        return bool(self.revision) and not self.dead and now >= self.seen + TTL_SECONDS + MARGIN_SECONDS


class Inquest(Struct, frozen=True):
    """The facts that two probes of one instance have shown; both were answered "no responders"."""

    absent: float
    """When the first answer came."""
    again: float
    """When the second probe was sent."""
    near: bool
    """Whether the instance was connected to our own server."""
    witness: float = inf
    """When a witness at its server was probed; the answer came before the first probe was sent."""
    witness_again: float = inf
    """When the same witness answered another probe, which was sent after the second answer."""

    def proves(self, bound: float) -> bool:
        """Tell whether the instance can start nothing any more; `bound` is the B of its lease."""
        steady = self.near or self.witness_again - self.witness < STEADY_SECONDS
        return steady and self.again - self.absent >= bound
