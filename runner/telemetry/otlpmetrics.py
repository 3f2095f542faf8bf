"""The families of `/metrics` as OTLP: the same names, labels, buckets and exemplars; values count from the start of the process.

A counter is named without its `_total`, because Prometheus adds that again when it takes OTLP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from prometheus_client import Metric as Family
from prometheus_client.samples import Exemplar as Shown
from prometheus_client.samples import Sample

from runner.telemetry.failure import clean
from runner.telemetry.keys import SCHEMA, SCOPE, VERSION

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
TRACE_ID = "trace_id"
_UNITS = {"seconds": "s", "bytes": "By"}


def request(
    families: Iterable[Family], resource: Mapping[str, str], start_ns: int, now_ns: int
) -> ExportMetricsServiceRequest:
    """Make the export of all families that have samples, from `start_ns` to `now_ns` in nanoseconds of Unix time."""
    times = start_ns, now_ns
    scope = InstrumentationScope(name=SCOPE, version=VERSION)
    metrics = [_metric(each, times) for each in families if each.samples]
    scoped = ScopeMetrics(scope=scope, metrics=metrics, schema_url=SCHEMA)
    return ExportMetricsServiceRequest(
        resource_metrics=[
            ResourceMetrics(resource=Resource(attributes=_attributes(resource)), scope_metrics=[scoped])
        ]
    )


def _metric(family: Family, times: tuple[int, int]) -> Metric:
    found = Metric(
        name=family.name,
        description=family.documentation,
        unit=_UNITS.get(family.name.rpartition("_")[2], ""),
    )
    match family.type:
        case "histogram":
            points = list(_histograms(family.samples, times))
            found.histogram.CopyFrom(Histogram(data_points=points, aggregation_temporality=CUMULATIVE))
        case "counter":
            numbers = _numbers(family.samples, times)
            found.sum.CopyFrom(
                Sum(data_points=numbers, aggregation_temporality=CUMULATIVE, is_monotonic=True)
            )
        case _:
            found.gauge.CopyFrom(Gauge(data_points=_numbers(family.samples, times)))
    return found


def _numbers(samples: Sequence[Sample], times: tuple[int, int]) -> list[NumberDataPoint]:
    start, now = times
    return [
        NumberDataPoint(
            attributes=_attributes(each.labels),
            start_time_unix_nano=start,
            time_unix_nano=now,
            as_double=each.value,
        )
        for each in samples
    ]


def _histograms(samples: Sequence[Sample], times: tuple[int, int]) -> Iterator[HistogramDataPoint]:
    """One data point a series. The samples of a series stand together, with cumulative buckets first."""
    start, now = times
    buckets: list[Sample] = []
    count = 0.0
    for sample in samples:
        if sample.name.endswith("_bucket"):
            buckets.append(sample)
        elif sample.name.endswith("_count"):
            count = sample.value
        elif sample.name.endswith("_sum"):
            counted = [int(each.value) for each in buckets]
            yield HistogramDataPoint(
                attributes=_attributes(sample.labels),
                start_time_unix_nano=start,
                time_unix_nano=now,
                count=int(count),
                sum=sample.value,
                bucket_counts=[here - before for before, here in zip([0, *counted], counted, strict=False)],
                explicit_bounds=[float(each.labels["le"]) for each in buckets[:-1]],
                exemplars=[
                    _exemplar(each.exemplar)
                    for each in buckets
                    if each.exemplar is not None and TRACE_ID in each.exemplar.labels
                ],
            )
            buckets = []


def _exemplar(shown: Shown) -> Exemplar:
    trace_id = bytes.fromhex(shown.labels[TRACE_ID])
    when = int((float(shown.timestamp) if shown.timestamp is not None else 0.0) * 1e9)
    return Exemplar(trace_id=trace_id, as_double=shown.value, time_unix_nano=when)


def _attributes(labels: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=clean(value))) for key, value in labels.items()]
