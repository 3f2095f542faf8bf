"""Metrics of the functions of one process: each metric has a series for each function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from prometheus_client.core import Metric

from runner.core.answered import OK
from runner.core.service import CODES, FAILED, NotStarted
from runner.core.settlement import Reason
from runner.pipeline.stats import Stats
from runner.process.function import Function
from runner.process.metrictext import Labels, family, histogram
from runner.process.served import Served
from runner.services.counts import Counts
from runner.services.responder import Responder


def families(functions: Sequence[Function], responders: Sequence[Responder], now: float) -> list[Metric]:
    """All metrics of functions; a metric may have no series here."""
    reading = [(label_of(each), each.stats, each) for each in functions]
    answering = [(label_of(each), each.stats, each) for each in responders]
    ordered = [
        (label, stats, shards) for label, stats, each in reading if (shards := each.shards) is not None
    ]
    joining = [(label, joins) for label, _, each in reading if (joins := each.joins) is not None]
    every: list[tuple[Labels, Stats | Counts, Served]] = [*reading, *answering]
    working: list[tuple[Labels, Served, int]] = [*((label, each, each.busy) for label, _, each in reading),
               *((label, each, each.running) for label, _, each in answering)]  # fmt: skip
    return [
        family(
            "jetrunner_messages_total",
            "counter",
            "Attempts settled, by outcome: ack, retry, or the reason of the dead letter.",
            [
                ({**label, "outcome": outcome}, count)
                for label, stats, _ in reading
                for outcome, count in outcomes(stats).items()
            ],
        ),
        family("jetrunner_redelivered_total", "counter",
               "Attempts settled of messages that the server had delivered before.",
               [(label, stats.redelivered) for label, stats, _ in reading]),
        family("jetrunner_outputs_total", "counter", "Messages that handlers made, and that are stored.",
               [(label, stats.outputs) for label, stats, _ in reading]),
        family("jetrunner_in_flight", "gauge", "Messages in work.",
               [(label, each.unsettled) for label, _, each in every]),
        family("jetrunner_slots", "gauge", "Handlers that may run at once.",
               [(label, each.binding.concurrency) for label, _, each in every]),
        family("jetrunner_slots_free", "gauge", "Handlers that may start besides those that run.",
               [(label, max(0, each.binding.concurrency - busy)) for label, each, busy in working]),
        family("jetrunner_pending", "gauge", "Messages not yet delivered, as the server last said.",
               [(label, each.intake.pending) for label, _, each in reading]),
        family("jetrunner_ack_pending", "gauge",
               "Messages delivered to any instance and not settled, as the server last said.",
               [(label, each.intake.unacked) for label, _, each in reading]),
        family("jetrunner_lag_seconds", "gauge",
               "Age of the oldest message not yet delivered, when the server was last asked.",
               [(label, each.intake.lag) for label, _, each in reading]),
        family("jetrunner_shards", "gauge", "Shards of an ordered function that this instance works on.",
               [(label, shards.working) for label, _, shards in ordered]),
        family("jetrunner_parked_total", "counter", "Messages given up here whose key is parked behind them.",
               [(label, stats.parked) for label, stats, _ in ordered]),
        family("jetrunner_parked_keys", "gauge", "Keys that are parked or on their way back, as this instance knows.",
               [(label, shards.parked_keys) for label, _, shards in ordered]),
        histogram("jetrunner_takeover_seconds",
                  "Time from the claim of another instance's shard until its messages may start.",
                  [(label, stats.takeovers) for label, stats, _ in ordered]),
        family("jetrunner_errors_unkept_total", "counter",
               "Errors of attempts to be retried that were not kept for `runner message show`.",
               [(label, each.unkept) for label, _, each in reading]),
        family("jetrunner_throttled", "gauge",
               "1 while an instance takes fewer messages, since it fails far more often than the others.",
               [(label, int(each.throttled)) for label, _, each in reading]),
        family("jetrunner_rate", "gauge", "Messages ended a second, over ten seconds.",
               [(label, stats.rate(now)) for label, stats, _ in every]),
        family("jetrunner_gather_events", "gauge", "Events that wait for parts, as the server last said.",
               [(label, joins.waiting) for label, joins in joining]),
        family("jetrunner_gather_parts_missing_total", "counter",
               "Parts that had not come when their event was joined without them.",
               [(label, joins.missing) for label, joins in joining]),
        family("jetrunner_gather_parts_late_total", "counter",
               "Parts that came after their event was joined, and were dropped.",
               [(label, joins.late) for label, joins in joining]),
        family("jetrunner_requests_total", "counter",
               "Requests answered, by code; not_started tells why a handler has not begun.",
               [sample for label, counts, _ in answering for sample in requests(label, counts)]),
        histogram("jetrunner_duration_seconds", "Time in the handler, of each attempt.",
                  [(label, stats.duration) for label, stats, _ in every],
                  {each.binding.function: stats.traced for _, stats, each in reading}),
        histogram("jetrunner_wait_seconds",
                  "Time from the publish of a message to the start of its first attempt, by the server's clock; "
                  "of a request from its arrival to the start of its handler.",
                  [(label, stats.wait) for label, stats, _ in every]),
        histogram("jetrunner_latency_seconds",
                  "Time from the publish of a message until it was settled, of those that succeeded; "
                  "of a request from its arrival until its handler has ended.",
                  [(label, stats.latency) for label, stats, _ in every]),
    ]  # fmt: skip


def label_of(function: Served) -> Labels:
    """The label that names a function in each of its series."""
    return {"function": function.binding.function}


def requests(label: Labels, counts: Counts) -> list[tuple[Labels, int]]:
    """How often a function has answered with each code; the codes that any function may have are there from the start."""
    codes = {OK: counts.acked, FAILED: 0, **counts.codes}
    reasons: tuple[NotStarted, ...] = ("overloaded", "expired", "draining")
    refused = {why: counts.not_started[why] for why in reasons}
    return [
        *(
            ({**label, "code": str(int(code)), "not_started": ""}, number)
            for code, number in sorted(codes.items())
        ),
        *(
            ({**label, "code": str(int(CODES[why])), "not_started": why}, number)
            for why, number in refused.items()
        ),
    ]


def outcomes(stats: Stats) -> dict[str, int]:
    """How often each outcome has occurred; outcomes that never have are included, with 0."""
    never = dict.fromkeys(get_args(Reason), 0)
    return {"ack": stats.acked, "retry": stats.retried, **never, **stats.dead}
