"""Metrics: every series from the start, and buckets that can be added up."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, get_args

from runner.core.histogram import Histogram
from runner.core.settlement import Reason
from runner.pipeline.stats import Stats
from runner.process.health import Health
from runner.process.metrictext import BOUNDS, cumulated


def metrics(stats: Stats) -> str:
    function: Any = SimpleNamespace(
        binding=SimpleNamespace(function="charge"),
        stats=stats,
        unsettled=0,
        throttled="",
        pending=0,
        unkept=0,
        joins=None,
    )
    return Health([function], lambda: "").metrics()


def test_every_outcome_and_bucket_is_there_before_the_first_message() -> None:
    text = metrics(Stats())
    for outcome in ("ack", "retry", *get_args(Reason)):
        assert f'jetrunner_messages_total{{function="charge",outcome="{outcome}"}} 0\n' in text
    bounds = re.findall(r'_bucket\{function="charge",le="([^"]+)"\} 0\n', text)
    assert [*map(float, bounds[:-1])] == list(BOUNDS)
    assert bounds[-1] == "+Inf"


def test_the_buckets_are_the_same_whatever_was_counted() -> None:
    busy = Stats()
    busy.durations += [0.00001, 0.004, 0.2, 700.0]

    def names(text: str) -> list[str]:
        return [line.rpartition(" ")[0] for line in text.splitlines()]

    assert names(metrics(busy)) == names(metrics(Stats()))
    assert 'jetrunner_duration_seconds_bucket{function="charge",le="+Inf"} 4\n' in metrics(busy)


def test_each_metric_says_what_it_is() -> None:
    text = metrics(Stats())
    found = set(re.findall(r"^(jetrunner_[a-z_]+?)(?:_bucket|_sum|_count)?(?:\{| )", text, re.MULTILINE))
    assert found == set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert found == set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))


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
