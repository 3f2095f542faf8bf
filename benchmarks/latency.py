"""Latency: from the send to the handler's first line, at a steady rate far below the limit."""

from __future__ import annotations

from statistics import median

import msgspec

from benchmarks.arena import Arena
from benchmarks.contender import environment, finish, spawned
from benchmarks.ours import Task
from benchmarks.server import Server
from benchmarks.timing import Percentiles

RATE = 1000
"""Messages a second."""
TITLE = "Latency"
SAYS = f"{RATE:,} messages a second. The latency is measured from just before the send to the first line of the handler."
NAMES = {"bare": "nats-py, callback", "ours": "jetrunner, default concurrency"}
WINDOW = 64


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one contender, in milliseconds: medians over the rounds, and the worst of all."""

    name: str
    p50: float
    p99: float
    max: float
    worst: float
    sent_late: float
    """How late the publisher was at most: what it was late is in no percentile."""
    rounds: list[Percentiles]


def measure(arena: Arena, seconds: float) -> list[Latency]:
    found: dict[str, list[Percentiles]] = {module: [] for module in NAMES}
    late: dict[str, float] = dict.fromkeys(NAMES, 0.0)
    for number in range(arena.rounds):
        for module in NAMES if number % 2 == 0 else reversed(NAMES):
            percentiles, sent_late = once(arena.server, module, f"l{number}{module}", int(seconds * RATE))
            found[module].append(percentiles)
            late[module] = max(late[module], sent_late)
    return [
        Latency(
            name=name,
            p50=median(one.p50 for one in found[module]),
            p99=median(one.p99 for one in found[module]),
            max=median(one.max for one in found[module]),
            worst=max(one.max for one in found[module]),
            sent_late=late[module],
            rounds=found[module],
        )
        for module, name in NAMES.items()
    ]


def once(server: Server, module: str, run: str, total: int) -> tuple[Percentiles, float]:
    """One contender's percentiles, and how late the publisher was."""
    stream, subject = f"PACE_{run}", f"pace.{run}"
    server.stream(stream, subject)
    if module == "bare":
        server.consumer(stream, run)
        arguments: tuple[object, ...] = ("latency", server.url, stream, run, run, total, WINDOW)
    else:
        task = Task(
            url=server.url, stream=stream, subject=subject, name=run, messages=total, handler="latency"
        )
        arguments = (msgspec.json.encode(task).decode(),)
    with spawned(module, *arguments, env=environment()) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{module} did not start")
        with spawned("pace", "127.0.0.1", server.port, subject, total, RATE, env=environment()) as pace:
            late = float(finish(pace))
        percentiles = msgspec.json.decode(finish(process), type=Percentiles)
    server.api(f"STREAM.DELETE.{stream}")
    return percentiles, late
