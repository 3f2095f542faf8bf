"""The objective of a project for its functions, and how much of its error budget is left."""

from __future__ import annotations

from msgspec import Struct

from runner.core.histogram import Histogram, lower


class Objective(Struct, frozen=True):
    """The share of messages that must succeed, and the seconds from their publish within which they must; None: not required."""

    availability: float | None = None
    """Over 0 and under 1. The same share must be settled within `latency`; without `availability` that share is 0.99."""
    latency: float | None = None

    @property
    def share(self) -> float:
        """The share of messages that must be good."""
        return self.availability if self.availability is not None else 0.99


def left(share: float | None, wanted: float) -> float | None:
    """The share of an error budget that is left: 1.0 after no failure, below 0 after too many; None without figures."""
    return None if share is None else round(1 - (1 - share) / (1 - wanted), 4)


def within(durations: Histogram, seconds: float) -> float | None:
    """The share of durations of at most `seconds`; a duration in the bucket of that limit counts by the bucket's middle."""
    number = durations.number
    if not number:
        return None
    met = sum(
        count
        for bucket, count in enumerate(durations.buckets)
        if count and (lower(bucket) + lower(bucket + 1)) / 2e6 <= seconds
    )
    return round(met / number, 6)
