"""What this process knows of the instances that it asks, for `runner status` and `/metrics`."""

from __future__ import annotations

from collections.abc import Mapping

from runner.core.backend import Backend
from runner.core.snapshot import MOST_ASKED, AskedFunction, Chosen
from runner.requests.callee import Callee

_WORST = ("ejected", "trial", "resting", "healthy")


def asked_here(callees: Mapping[tuple[str, str], Callee]) -> list[Callee]:
    """The functions that this process has asked, by name; the first 100 of them."""
    return [callees[key] for key in sorted(callees) if callees[key].asked][:MOST_ASKED]


def asked(callees: Mapping[tuple[str, str], Callee], now: float) -> list[AskedFunction]:
    """What is known of each asked function and its instances; of more than 100 instances the worst."""
    return [_asked(callee, now) for callee in asked_here(callees)]


def _asked(callee: Callee, now: float) -> AskedFunction:
    known = list(callee.balancer.backends.values())
    known.sort(key=lambda each: (_WORST.index(each.state(now)), each.name))
    return AskedFunction(
        project=callee.project,
        function=callee.function,
        subject=callee.pattern,
        known=len(known),
        instances=[_chosen(each, now) for each in known[:MOST_ASKED]],
    )


def _chosen(backend: Backend, now: float) -> Chosen:
    return Chosen(
        instance=backend.name,
        state=backend.state(now),
        reason=backend.reason,
        outstanding=backend.outstanding,
        weight=backend.weight,
        latency=round(backend.latency, 6),
        success=round(backend.success, 3),
    )
