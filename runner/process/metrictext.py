"""Prometheus' text format: families of samples, and histograms."""

from __future__ import annotations

from collections.abc import Sequence

from runner.core.histogram import Histogram, lower

BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds of the buckets of every histogram, in seconds: fixed, so that instances and times can be added up."""


def family(name: str, kind: str, text: str, samples: Sequence[tuple[str, float]]) -> list[str]:
    """The lines of one metric, none without samples; each sample has its labels and its value."""
    if not samples:
        return []
    return [
        f"# HELP {name} {text}",
        f"# TYPE {name} {kind}",
        *(f"{name}{f'{{{labels}}}' if labels else ''} {value!r}" for labels, value in samples),
    ]


def histogram(name: str, text: str, series: Sequence[tuple[str, Histogram]]) -> list[str]:
    """The lines of one histogram; each series has its labels and its durations."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} histogram"]
    for label, duration in series:
        number = duration.number
        lines += [
            f'{name}_bucket{{{label},le="{bound:g}"}} {count}'
            for bound, count in zip(BOUNDS, cumulated(duration), strict=True)
        ]
        lines += [
            f'{name}_bucket{{{label},le="+Inf"}} {number}',
            f"{name}_sum{{{label}}} {duration.total_us / 1e6!r}",
            f"{name}_count{{{label}}} {number}",
        ]
    return lines


def cumulated(histogram: Histogram) -> list[int]:
    """How many durations are at most each of BOUNDS; one within the bucket of a bound counts by that bucket's middle."""
    counts = [0] * len(BOUNDS)
    at = 0
    total = 0
    for bucket, count in enumerate(histogram.buckets):
        middle = (lower(bucket) + lower(bucket + 1)) / 2e6
        while at < len(BOUNDS) and middle > BOUNDS[at]:
            counts[at] = total
            at += 1
        if at == len(BOUNDS):
            break
        total += count
    counts[at:] = [total] * (len(BOUNDS) - at)
    return counts
