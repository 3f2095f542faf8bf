"""Rounds: every contender once a round, in a changing order; the median of the rounds is what is told."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from benchmarks.arena import Arena
from benchmarks.contender import Contender, Sample, sample


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One contender's medians, and their ratios to those of the one it is compared with."""

    name: str
    messages: int
    at: int | None
    """Its place on the axis, in a section that shows how cost grows."""
    rate: float
    slowest: float
    fastest: float
    cpu: float
    server_cpu: float
    memory: float
    beside: str
    """The contender that the ratios are to."""
    rate_ratio: float
    cpu_ratio: float
    dropped: int | None
    """Most spans that were missing after a run, where every message is traced."""
    p50: float | None = None
    p99: float | None = None
    """Medians of the rounds, in milliseconds, where that is measured."""
    rounds: list[Sample]

    @property
    def ours(self) -> bool:
        return self.name.startswith("jetrunner")


def interleave(section: str, contenders: Sequence[Contender], arena: Arena) -> list[Result]:
    """Run each contender in each round, every round beginning with another one; nothing if all are missing here."""
    if not contenders:
        return []
    samples: dict[str, list[Sample]] = {one.name: [] for one in contenders}
    for number in range(arena.rounds):
        turn = number % len(contenders)
        for at, one in enumerate((*contenders[turn:], *contenders[:turn])):
            found = sample(one, arena.server, f"{section}_{number}_{at}")
            samples[one.name].append(found)
            print(f"{section} {number + 1}/{arena.rounds}  {one.name}: {found.rate:,.0f}/s", file=sys.stderr)
    results = []
    base = contenders[0].name
    for one in contenders:
        base = one.name if one.base else base
        results.append(result(one, samples[one.name], base, samples[base]))
    return results


def typical(delays: Iterable[float | None]) -> float | None:
    """Their median; None where none was measured."""
    known = [one for one in delays if one is not None]
    return median(known) if known else None


def result(contender: Contender, samples: list[Sample], beside: str, others: list[Sample]) -> Result:
    rates = [one.rate for one in samples]
    rate, cpu = median(rates), median(one.cpu for one in samples)
    return Result(
        name=contender.name,
        messages=contender.messages,
        at=contender.at,
        rate=rate,
        slowest=min(rates),
        fastest=max(rates),
        cpu=cpu,
        server_cpu=median(one.server_cpu for one in samples),
        memory=median(one.memory for one in samples),
        beside=beside,
        rate_ratio=rate / median(one.rate for one in others),
        cpu_ratio=cpu / median(one.cpu for one in others),
        dropped=None
        if contender.spans is None
        else max(contender.spans - (one.spans or 0) for one in samples),
        p50=typical(one.p50 for one in samples),
        p99=typical(one.p99 for one in samples),
        rounds=samples,
    )
