"""Rounds: every contender once a round, in a changing order; the median of the rounds is what is told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import median

import msgspec

from benchmarks.contender import Contender, Sample, sample
from benchmarks.server import Server


class Result(msgspec.Struct, frozen=True):
    """One contender's medians, and their ratios to those of the one it is compared with."""

    name: str
    messages: int
    rate: float
    slowest: float
    fastest: float
    cpu: float
    server_cpu: float
    rate_ratio: float
    cpu_ratio: float
    rounds: list[Sample]


def interleave(section: str, contenders: Sequence[Contender], server: Server, rounds: int) -> list[Result]:
    """Run them all, and compare each with the one it names."""
    samples: dict[str, list[Sample]] = {one.name: [] for one in contenders}
    for number in range(rounds):
        turn = number % len(contenders)
        for at, one in enumerate((*contenders[turn:], *contenders[:turn])):
            run = f"{section}_{number}_{at}"
            samples[one.name].append(sample(one, server, run))
            print(
                f"{section} {number + 1}/{rounds}  {one.name}: {samples[one.name][-1].rate:,.0f}/s",
                file=sys.stderr,
            )
    first = contenders[0].name
    return [result(one, samples[one.name], samples[one.beside or first]) for one in contenders]


def result(contender: Contender, samples: list[Sample], beside: list[Sample]) -> Result:
    rates = [one.rate for one in samples]
    rate, cpu = median(rates), median(one.cpu for one in samples)
    return Result(
        name=contender.name,
        messages=contender.messages,
        rate=rate,
        slowest=min(rates),
        fastest=max(rates),
        cpu=cpu,
        server_cpu=median(one.server_cpu for one in samples),
        rate_ratio=rate / median(one.rate for one in beside),
        cpu_ratio=cpu / median(one.cpu for one in beside),
        rounds=samples,
    )
