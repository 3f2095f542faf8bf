"""Latency of an ordered function beside others of its process that compute all the time."""

from __future__ import annotations

from statistics import median

import msgspec

from benchmarks import burn
from benchmarks.arena import Arena
from benchmarks.burn import Kind
from benchmarks.contender import environment, finish, spawned
from benchmarks.latency import Latency
from benchmarks.ours import Task
from benchmarks.server import Server
from benchmarks.timing import Percentiles

RATE = 500
"""Messages a second, over `KEYS` keys."""
KEYS = 64
STARTING_SECONDS = 10
"""There is work for the computing function for so long before and after the measurement."""
TITLE = "Beside handlers that compute"
SAYS = (
    f"An ordered function on {KEYS} keys, {RATE} messages a second, alone and beside handlers "
    f"that compute without a pause in the same process ({burn.SLOTS} at once). The latency is measured from just before the send to the first line of the handler."
)
NAMES: dict[Kind | None, str] = {
    None: "ordered, alone",
    "process": 'ordered, beside executor="process"',
    "thread": "ordered, beside def handlers",
}


def measure(arena: Arena, seconds: float) -> list[Latency]:
    found: dict[Kind | None, list[Percentiles]] = {kind: [] for kind in NAMES}
    late: dict[Kind | None, float] = dict.fromkeys(NAMES, 0.0)
    for number in range(arena.rounds):
        for kind in NAMES if number % 2 == 0 else reversed(NAMES):
            percentiles, sent_late = once(arena.server, kind, f"b{number}{kind or 'alone'}", seconds)
            found[kind].append(percentiles)
            late[kind] = max(late[kind], sent_late)
    return [
        Latency(
            name=name,
            p50=median(one.p50 for one in found[kind]),
            p99=median(one.p99 for one in found[kind]),
            max=median(one.max for one in found[kind]),
            worst=max(one.max for one in found[kind]),
            sent_late=late[kind],
            rounds=found[kind],
        )
        for kind, name in NAMES.items()
    ]


def once(server: Server, kind: Kind | None, run: str, seconds: float) -> tuple[Percentiles, float]:
    """The percentiles of the ordered function, and how late the publisher was."""
    stream, subject, total = f"PACE_{run}", f"pace.{run}.*", int(seconds * RATE)
    server.stream(stream, subject)
    if kind is not None:
        server.stream(burn.STREAM, burn.SUBJECT)
        jobs = int((seconds + 2 * STARTING_SECONDS) * burn.SLOTS / (burn.COMPUTED_NS / 1e9))
        server.fill(burn.STREAM, "burn", jobs, keys=1, size=150, headers=False)
    task = Task(
        url=server.url,
        stream=stream,
        subject=subject,
        name=run,
        messages=total,
        handler="latency",
        ordered=True,
        beside=kind or "",
    )
    with spawned("ours", msgspec.json.encode(task).decode(), env=environment()) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{run} did not start")
        arguments = ("127.0.0.1", server.port, f"pace.{run}.*", total, RATE, KEYS)
        with spawned("pace", *arguments, env=environment()) as pace:
            late = float(finish(pace))
        percentiles = msgspec.json.decode(finish(process), type=Percentiles)
    for name in (stream, *([burn.STREAM] if kind is not None else [])):
        server.api(f"STREAM.DELETE.{name}")
    return percentiles, late
