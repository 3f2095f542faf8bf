"""What this process knows of the instances that it asks, as its status and its metrics tell it."""

from __future__ import annotations

from collections.abc import Mapping

from runner.core.backend import Backend
from runner.core.snapshot import MOST_ASKED, AskedFunction, Chosen
from runner.requests.target import Target

_WORST = ("ejected", "trial", "resting", "healthy")


def asked_here(targets: Mapping[tuple[str, str], Target]) -> list[Target]:
    """The functions that this process has asked, in the order of names; of more than 100 the first."""
    return [targets[key] for key in sorted(targets) if targets[key].asked][:MOST_ASKED]


def asked(targets: Mapping[tuple[str, str], Target], now: float) -> list[AskedFunction]:
    """What is known of each function that was asked, and of its instances: of more than 100 the worst."""
    return [_asked(target, now) for target in asked_here(targets)]


def _asked(target: Target, now: float) -> AskedFunction:
    known = list(target.balancer.backends.values())
    known.sort(key=lambda each: (_WORST.index(each.state(now)), each.name))
    return AskedFunction(
        project=target.project,
        function=target.function,
        subject=target.pattern,
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
