"""Makes metric families of our figures; `prometheus_client` writes them as Prometheus' text, or as OpenMetrics with exemplars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Literal, TypeAlias

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from runner.core.histogram import SIZE, Histogram, lower
from runner.pipeline.stats import Traced

Labels: TypeAlias = dict[str, str]

BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds of the buckets of every histogram, in seconds: fixed, so that instances and times can be added up."""
INFINITY = len(BOUNDS)
_EDGES = (*(f"{bound:g}" for bound in BOUNDS), "+Inf")


def _bound_of(bucket: int) -> int:
    """The index of the first bound that counts a bucket of `Histogram`, by the bucket's middle; INFINITY if none does."""
    middle = (lower(bucket) + lower(bucket + 1)) / 2e6
    return next((at for at, bound in enumerate(BOUNDS) if middle <= bound), INFINITY)


_BOUND_OF = tuple(_bound_of(bucket) for bucket in range(SIZE))


class _Families(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def written(families: Sequence[Metric], accepted: str = "") -> tuple[str, bytes]:
    """The content type and the text, in the format that the reader accepts; families without samples are left out."""
    encode, kind = choose_encoder(accepted)
    return kind, encode(_Families([each for each in families if each.samples]))


def family(
    name: str, kind: Literal["counter", "gauge"], text: str, samples: Iterable[tuple[Labels, float]]
) -> Metric:
    """One metric; each sample has its labels and its value."""
    found = Metric(name.removesuffix("_total") if kind == "counter" else name, text, kind)
    for labels, value in samples:
        found.add_sample(name, labels, value)
    return found


def histogram(
    name: str,
    text: str,
    series: Iterable[tuple[Labels, Histogram]],
    traced: Mapping[str, Mapping[int, Traced]] | None = None,
) -> Metric:
    """One histogram; each series has its labels and its durations. `traced` are durations with a trace, by function and bucket."""
    found = Metric(name, text, "histogram")
    for labels, durations in series:
        shown = exemplars((traced or {}).get(labels.get("function", ""), {}))
        counts = (*cumulated(durations), durations.number)
        found.samples += [
            Sample(f"{name}_bucket", {**labels, "le": edge}, count, None, shown.get(at))
            for at, (edge, count) in enumerate(zip(_EDGES, counts, strict=True))
        ]
        found.add_sample(f"{name}_count", labels, counts[-1])
        found.add_sample(f"{name}_sum", labels, durations.total_us / 1e6)
    return found


def exemplars(traced: Mapping[int, Traced]) -> dict[int, Exemplar]:
    """The last duration with a trace for each bound, by the index of the first bound that counts the duration."""
    found: dict[int, Exemplar] = {}
    for bucket, (trace_id, seconds, when) in sorted(traced.items()):
        at = _BOUND_OF[bucket]
        if seconds <= (*BOUNDS, float("inf"))[at]:
            found[at] = Exemplar({"trace_id": trace_id}, seconds, when)
    return found


def cumulated(histogram: Histogram) -> list[int]:
    """How many durations are at most each of BOUNDS; a duration in the bucket of a bound counts by the bucket's middle."""
    counts = [0] * (INFINITY + 1)
    for bucket, count in enumerate(histogram.buckets):
        if count:
            counts[_BOUND_OF[bucket]] += count
    return list(accumulate(counts[:INFINITY]))
