"""What a project wants of its functions, and how much of what may go wrong is left."""

from __future__ import annotations

from msgspec import Struct

from runner.core.histogram import Histogram, lower


class Objective(Struct, frozen=True):
    """The share of messages that have to succeed, and within how many seconds from their publish; None: not asked for."""

    availability: float | None = None
    """Over 0 and under 1. The same share has to be settled within `latency`; 0.99 where none is said."""
    latency: float | None = None

    @property
    def share(self) -> float:
        """The share that has to be good."""
        return self.availability if self.availability is not None else 0.99


def left(share: float | None, wanted: float) -> float | None:
    """The share of an error budget that is left: 1.0 when nothing went wrong, below 0 when too much did; None without figures."""
    return None if share is None else round(1 - (1 - share) / (1 - wanted), 4)


def within(durations: Histogram, seconds: float) -> float | None:
    """The share of durations that are at most so long; one within the bucket of the limit counts by that bucket's middle."""
    number = durations.number
    if not number:
        return None
    met = sum(
        count
        for bucket, count in enumerate(durations.buckets)
        if count and (lower(bucket) + lower(bucket + 1)) / 2e6 <= seconds
    )
    return round(met / number, 6)
