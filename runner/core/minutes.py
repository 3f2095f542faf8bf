"""What a function has done in a minute: counts and buckets that can be added up, over instances and minutes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from runner.core import checked
from runner.core.checked import Count, FunctionName
from runner.core.histogram import SIZE, Histogram

SECONDS = 60
KEPT = "2h"
"""How long the bucket keeps a record."""
SHOWN = 60
"""How many minutes are added up to be shown."""
Buckets = Annotated[list[Count], Meta(max_length=SIZE + 1)]
"""A histogram's snapshot; empty where nothing was counted."""


class Minute(Struct, frozen=True, omit_defaults=True):
    """What one function has done in a minute, in one instance or in several together."""

    acked: Count = 0
    """Messages that were acknowledged; requests that were answered with a result."""
    failed: Count = 0
    """Attempts that did not succeed; requests that were answered with an error after their handler had begun."""
    retried: Count = 0
    dead: Count = 0
    wait: Buckets = []
    """Times from the publish to the start of the first attempt; of a request from its arrival to the start."""
    work: Buckets = []
    """Times in the handler, of each attempt."""
    latency: Buckets = []
    """Times from the publish until the settlement, of messages that succeeded; of a request from its arrival to the answer."""
    faulty: Count = 0
    """How many of the failed requests were not the asker's fault."""
    refused: Count = 0
    """Requests that were answered with an error before their handler had begun."""
    answers: bool = False
    """Whether the function answers requests."""

    def __bool__(self) -> bool:
        """Whether anything was done."""
        return bool(self.acked or self.failed or self.refused or self.wait or self.work or self.latency)

    def since(self, before: Minute) -> Minute:
        """What the same instance has done since `before`."""
        return Minute(
            self.acked - before.acked,
            self.failed - before.failed,
            self.retried - before.retried,
            self.dead - before.dead,
            _less(self.wait, before.wait),
            _less(self.work, before.work),
            _less(self.latency, before.latency),
            self.faulty - before.faulty,
            self.refused - before.refused,
            self.answers,
        )


class MinuteRecord(Struct, frozen=True):
    """What one instance has done in a minute, by function."""

    functions: dict[FunctionName, Minute]


read = checked.json(MinuteRecord)
"""Decode a record of the bucket; raises `Unfit`."""


def key(project: str, minute: int, instance: str) -> str:
    """Name the bucket's key of a record."""
    return f"minutes.{project}.{minute}.{instance}"


def place(found: str) -> tuple[int, str] | None:
    """Read the minute and the instance from a key; None for a key of another form."""
    tokens = found.split(".", 3)
    return (int(tokens[2]), tokens[3]) if len(tokens) == 4 and tokens[2].isdecimal() else None


def total(parts: Iterable[Minute]) -> Minute:
    """Add up several minutes."""
    acked = failed = retried = dead = faulty = refused = 0
    answers = False
    histograms = Histogram(), Histogram(), Histogram()
    for part in parts:
        acked, failed = acked + part.acked, failed + part.failed
        retried, dead = retried + part.retried, dead + part.dead
        faulty, refused = faulty + part.faulty, refused + part.refused
        answers = answers or part.answers
        for histogram, found in zip(histograms, (part.wait, part.work, part.latency), strict=True):
            if found:
                histogram.merge(Histogram.restore(found))
    wait, work, latency = (buckets(each) for each in histograms)
    return Minute(acked, failed, retried, dead, wait, work, latency, faulty, refused, answers)


def buckets(histogram: Histogram) -> list[int]:
    """The snapshot of a histogram; empty when nothing was counted."""
    found = histogram.snapshot()
    return found if len(found) > 1 else []


def _less(now: list[int], before: list[int]) -> list[int]:
    found = [here - there for here, there in zip(now, [*before, *[0] * len(now)], strict=False)]
    return found if any(found[1:]) else []
