"""What a function has done in a minute: counts and buckets that can be added up, over instances and minutes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from runner.core import checked
from runner.core.checked import Count, Function
from runner.core.histogram import SIZE, Histogram

SECONDS = 60
KEPT = "2h"
"""A record is gone after so long."""
SHOWN = 60
"""So many minutes are added up."""
Buckets = Annotated[list[Count], Meta(max_length=SIZE + 1)]
"""A histogram's snapshot; empty where nothing was counted."""


class Minute(Struct, frozen=True, omit_defaults=True):
    """Of one function of one instance, or of several."""

    acked: Count = 0
    failed: Count = 0
    """Attempts that did not succeed."""
    retried: Count = 0
    dead: Count = 0
    wait: Buckets = []
    """From the publish to the start of the first attempt."""
    work: Buckets = []
    """In the handler, of each attempt."""
    latency: Buckets = []
    """From the publish until it was settled, of those that succeeded."""

    def __bool__(self) -> bool:
        """Whether anything was done."""
        return bool(self.acked or self.failed or self.wait or self.work or self.latency)

    def since(self, before: Minute) -> Minute:
        """What was done since then, of the same instance."""
        return Minute(
            self.acked - before.acked,
            self.failed - before.failed,
            self.retried - before.retried,
            self.dead - before.dead,
            _less(self.wait, before.wait),
            _less(self.work, before.work),
            _less(self.latency, before.latency),
        )


class Record(Struct, frozen=True):
    """What one instance has done in a minute, by function."""

    functions: dict[Function, Minute]


read = checked.json(Record)
"""A record of the bucket; raises `Unfit`."""


def key(project: str, minute: int, instance: str) -> str:
    """Where a record stands in the bucket."""
    return f"minutes.{project}.{minute}.{instance}"


def place(found: str) -> tuple[int, str] | None:
    """The minute and the instance of a key; None for one of another form."""
    tokens = found.split(".", 3)
    return (int(tokens[2]), tokens[3]) if len(tokens) == 4 and tokens[2].isdecimal() else None


def total(parts: Iterable[Minute]) -> Minute:
    """Several as one."""
    acked = failed = retried = dead = 0
    histograms = Histogram(), Histogram(), Histogram()
    for part in parts:
        acked, failed = acked + part.acked, failed + part.failed
        retried, dead = retried + part.retried, dead + part.dead
        for histogram, found in zip(histograms, (part.wait, part.work, part.latency), strict=True):
            if found:
                histogram.merge(Histogram.restore(found))
    return Minute(acked, failed, retried, dead, *(buckets(each) for each in histograms))


def buckets(histogram: Histogram) -> list[int]:
    """Its snapshot, empty where nothing was counted."""
    found = histogram.snapshot()
    return found if len(found) > 1 else []


def _less(now: list[int], before: list[int]) -> list[int]:
    found = [here - there for here, there in zip(now, [*before, *[0] * len(now)], strict=False)]
    return found if any(found[1:]) else []
