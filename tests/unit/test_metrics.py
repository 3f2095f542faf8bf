"""Metrics: every series from the start, and buckets that can be added up."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace
from typing import Any, get_args

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from runner.core.histogram import Histogram
from runner.core.settlement import Reason
from runner.pipeline.stats import MOST_READ, Stats
from runner.process.health import Health
from runner.process.metrictext import BOUNDS, cumulated


def metrics(stats: Stats, accepted: str = "") -> str:
    function: Any = SimpleNamespace(
        binding=SimpleNamespace(function="charge", concurrency=64),
        stats=stats,
        unsettled=0,
        busy=0,
        shards=None,
        intake=SimpleNamespace(pending=0, unacked=0, lag=0.0),
        throttled=False,
        unkept=0,
        joins=None,
    )
    return Health([function], lambda: "").metrics(accepted)[1].decode()


def test_every_outcome_and_bucket_is_there_before_the_first_message() -> None:
    text = metrics(Stats())
    for outcome in ("ack", "retry", *get_args(Reason)):
        assert f'jetrunner_messages_total{{function="charge",outcome="{outcome}"}} 0.0\n' in text
    bounds = re.findall(r'jetrunner_duration_seconds_bucket\{function="charge",le="([^"]+)"\} 0.0\n', text)
    assert [*map(float, bounds[:-1])] == list(BOUNDS)
    assert bounds[-1] == "+Inf"


def test_the_buckets_are_the_same_whatever_was_counted() -> None:
    busy = Stats()
    busy.durations += [0.00001, 0.004, 0.2, 700.0]

    def names(text: str) -> list[str]:
        return [line.rpartition(" ")[0] for line in text.splitlines()]

    assert names(metrics(busy)) == names(metrics(Stats()))
    assert 'jetrunner_duration_seconds_bucket{function="charge",le="+Inf"} 4.0\n' in metrics(busy)


def test_each_metric_says_what_it_is() -> None:
    text = metrics(Stats())
    found = set(re.findall(r"^(jetrunner_[a-z_]+?)(?:_bucket|_sum|_count)?(?:\{| )", text, re.MULTILINE))
    assert found == set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert found == set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))


def test_the_wait_and_the_latency_are_counted_from_the_publish_by_the_servers_clock() -> None:
    """Its clock is a minute ahead of ours: a message that it stored half a second ago has waited so long."""
    stats = Stats(lambda: time.time() + 60)
    now = time.monotonic()
    stored = int((time.time() + 59.5) * 1e9)
    stats.ended += (b"$JS.ACK.ORDERS.shop-charge.1.7.7.%d.0" % stored, now, now + 0.5)
    stats.collect()
    assert stats.wait.number == stats.latency.number == 1
    assert 0.4 < stats.wait.percentile(50) < 0.6
    assert 0.9 < stats.latency.percentile(50) < 1.1


def test_of_very_many_messages_some_are_read_and_all_are_counted() -> None:
    stats, now, here = Stats(), time.monotonic(), time.time()
    for number in range(MOST_READ * 3 + 1):
        stored = int((here - 1 - (number % 2)) * 1e9)
        stats.ended += (b"$JS.ACK.ORDERS.shop-charge.1.7.7.%d.0" % stored, now, now)
    stats.collect()
    assert stats.wait.number == stats.latency.number == MOST_READ * 3 + 1
    assert 0.9 < stats.wait.percentile(10) < 1.2
    assert 1.8 < stats.wait.percentile(90) < 2.2


def test_a_reader_that_asks_for_openmetrics_gets_the_traces_of_durations() -> None:
    stats = Stats()
    kept, dropped = SimpleNamespace(sampled=True, trace_id="a" * 32), SimpleNamespace(sampled=False)
    stats.took(0.004, kept)
    stats.took(0.2, dropped)
    text = metrics(stats, "application/openmetrics-text; version=1.0.0")
    (line,) = [each for each in text.splitlines() if "trace_id" in each]
    assert line.startswith(
        'jetrunner_duration_seconds_bucket{function="charge",le="0.005"} 1.0 # {trace_id="aaaa'
    )
    assert text.endswith("# EOF\n")
    assert len(list(text_string_to_metric_families(text))) > 10  # type: ignore[no-untyped-call]
    assert "trace_id" not in metrics(stats)


def test_a_duration_counts_up_to_its_bound_and_every_one_above() -> None:
    histogram = Histogram()
    for seconds in (0.00005, 0.003, 0.003, 20.0):
        histogram.count(int(seconds * 1e6))
    counts = dict(zip(BOUNDS, cumulated(histogram), strict=True))
    assert (counts[0.0001], counts[0.0025], counts[0.005], counts[10.0], counts[30.0]) == (1, 1, 3, 3, 4)
    assert counts[60.0] == 4


def test_a_long_one_is_in_no_bucket_but_the_last() -> None:
    histogram = Histogram()
    histogram.count(int(3600e6))
    assert set(cumulated(histogram)) == {0}
