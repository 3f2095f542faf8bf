"""Metrics of the functions that this process asks.

An instance gets a new name at each start, so instances have no series of their own: they are counted by state. `runner status` names
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from prometheus_client.core import Metric

from runner.core.backend import State
from runner.core.ejection import Reason
from runner.process.metrictext import Labels, family
from runner.requests.callee import Callee
from runner.requests.view import asked_here


def families(callees: Mapping[tuple[str, str], Callee], now: float) -> list[Metric]:
    """The metrics of the asked functions; of more than 100 functions, those of the first 100 by name."""
    each = [(_label(callee), callee.balancer) for callee in asked_here(callees)]
    states: list[tuple[Labels, float]] = []
    weights: list[tuple[Labels, float]] = []
    latencies: list[tuple[Labels, float]] = []
    for label, balancer in each:
        backends = balancer.backends.values()
        known = sorted(backend.latency for backend in backends if backend.answers)
        for state in get_args(State):
            of_it = [backend for backend in backends if backend.state(now) == state]
            states.append(({**label, "state": state}, len(of_it)))
            weights.append(({**label, "state": state}, sum(backend.weight for backend in of_it)))
        for which, at in (("least", 0), ("median", (len(known) - 1) // 2), ("most", -1)):
            latencies.append(({**label, "of": which}, known[at] if known else 0.0))
    return [
        family("jetrunner_asked_instances", "gauge", "Instances of a function that is asked here, by state.", states),
        family("jetrunner_asked_weight", "gauge", "What these instances weigh together.", weights),
        family("jetrunner_asked_outstanding", "gauge", "Requests that were sent from here and are not answered.",
                [(label, sum(backend.outstanding for backend in balancer.backends.values()))
                 for label, balancer in each]),
        family("jetrunner_asked_latency_seconds", "gauge",
                "The running mean of the answers of the instance that is fastest, in the middle, or slowest.",
                latencies),
        family("jetrunner_asked_ejections_total", "counter", "How often an instance was left out, by the reason.",
                [({**label, "reason": reason}, balancer.ejections.get(reason, 0))
                 for label, balancer in each for reason in get_args(Reason)]),
    ]  # fmt: skip


def _label(callee: Callee) -> Labels:
    return {"project": callee.project, "function": callee.function}
