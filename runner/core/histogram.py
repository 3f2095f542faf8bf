"""A latency histogram: buckets whose width grows with the value, four to each doubling.

A bucket spans at most a quarter of its lower edge, so a percentile is off by less than 12%; below 8 µs it is exact. A percentile
is never below the least or above the greatest duration that was counted.
Counting is two shifts and an addition: no lock, no float, no allocation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Self

LONGEST = 2**36 - 1
"""In microseconds (19 hours); longer durations count as this one."""


def index(us: int) -> int:
    """Find the bucket of a number of microseconds, 0 to LONGEST."""
    shift = us.bit_length() - 3
    return us if shift < 0 else (shift << 2) + (us >> shift)


def lower(bucket: int) -> int:
    """Give the least number of microseconds that a bucket counts; the bucket ends before the least of the next one."""
    return bucket if bucket < 4 else ((bucket & 3) + 4) << ((bucket >> 2) - 1)


SIZE = index(LONGEST) + 1


class Histogram:
    """Counts of durations, in microseconds."""

    __slots__ = ("buckets", "least", "most", "total_us")

    def __init__(self) -> None:
        self.buckets = [0] * SIZE
        self.total_us = 0
        self.least = LONGEST
        self.most = 0

    def count(self, us: int, times: int = 1) -> None:
        """Count a duration, `times` times; one outside of 0 to LONGEST counts as the nearer end."""
        if us > LONGEST:  # noqa: PLR1730  min() costs as much as all the rest
            us = LONGEST
        shift = us.bit_length() - 3
        if us < 4:
            shift, us = -1, max(us, 0)
        if us < self.least:  # noqa: PLR1730
            self.least = us
        if us > self.most:  # noqa: PLR1730
            self.most = us
        self.buckets[us if shift < 0 else (shift << 2) + (us >> shift)] += times
        self.total_us += us * times

    def count_seconds(self, durations: Iterable[float]) -> None:
        """Count many durations, in seconds."""
        for us, times in Counter(map(int, map((1e6).__mul__, durations))).items():
            self.count(us, times)

    @property
    def number(self) -> int:
        """How many durations were counted."""
        return sum(self.buckets)

    def percentile(self, p: float) -> float:
        """Give the seconds that `p` percent (0 to 100) of the durations do not exceed; 0.0 when there are none."""
        number = self.number
        if not number:
            return 0.0
        # Whole percents give an exact rank; with floats, p=99 of 100 would be the last one.
        rank = max(1, -(-number * p // 100))
        running = accumulate(self.buckets)
        bucket = next(at for at, below in enumerate(running) if below >= rank)
        low, high = max(lower(bucket), self.least), min(lower(bucket + 1) - 1, self.most)
        # The harmonic mean of the edges: in proportion, it is equally far from both.
        return 2 * low * high / (low + high) / 1e6 if high else 0.0

    def merge(self, other: Histogram) -> None:
        """Add another histogram's counts to these."""
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.total_us += other.total_us
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)

    def snapshot(self) -> list[int]:
        """Give the counts as whole numbers: the sum of microseconds, then each bucket up to the last one used."""
        used = max((at + 1 for at, count in enumerate(self.buckets) if count), default=0)
        return [self.total_us, *self.buckets[:used]]

    @property
    def extremes(self) -> tuple[int, int] | None:
        """The least and the most microseconds that were counted; None when nothing was."""
        return (self.least, self.most) if self.least <= self.most else None

    @classmethod
    def restore(cls, snapshot: Sequence[int], extremes: Sequence[int] | None = None) -> Self:
        """Make a histogram from its snapshot; ValueError when that is malformed. Without `extremes`, the edges of its buckets are used."""
        if not 1 <= len(snapshot) <= SIZE + 1 or min(snapshot) < 0:
            raise ValueError("not a histogram's snapshot")
        histogram = cls()
        histogram.total_us = snapshot[0]
        histogram.buckets[: len(snapshot) - 1] = snapshot[1:]
        used = [at for at, count in enumerate(histogram.buckets) if count]
        if used:
            least, most = extremes or (lower(used[0]), lower(used[-1] + 1) - 1)
            if least > most or (index(max(least, 0)), index(min(most, LONGEST))) != (used[0], used[-1]):
                raise ValueError("not a histogram's extremes")
            histogram.least, histogram.most = least, most
        return histogram
