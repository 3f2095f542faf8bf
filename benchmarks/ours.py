"""Jetrunner as a contender: the real `serve` with one `@consume` function, in a process of its own.

python -m benchmarks.ours noop|real|real_output|ordered|output|latency URL STREAM SUBJECT NAME MESSAGES CONCURRENCY [PROFILE]
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import time
from pathlib import Path

import uvloop

from benchmarks.meter import Meter
from benchmarks.timing import Latencies
from benchmarks.workload import Order, Timed
from runner import Context, consume
from runner.bindings import Binding, binding_of
from runner.cli import loop
from runner.config import Settings
from runner.discovery import Project
from runner.engine.app import serve
from runner.engine.stop import Stop


def noop(meter: Meter, stream: str, subject: str, name: str, concurrency: int) -> Binding | None:
    tick = meter.tick

    @consume(subject, stream=stream, name=name, concurrency=concurrency)
    async def handler(order: Order) -> None:
        tick()

    return binding_of(handler)


def real(meter: Meter, stream: str, subject: str, name: str, concurrency: int) -> Binding | None:
    tick = meter.tick

    @consume(subject.replace("*", "{customer}"), stream=stream, name=name, concurrency=concurrency)
    async def handler(order: Order, customer: str, ctx: Context) -> None:
        tick()

    return binding_of(handler)


def ordered(meter: Meter, stream: str, subject: str, name: str, concurrency: int) -> Binding | None:
    tick = meter.tick

    @consume(
        subject.replace("*", "{key}"), stream=stream, name=name, concurrency=concurrency, ordered_by="key"
    )
    async def handler(order: Order) -> None:
        tick()

    return binding_of(handler)


def output(meter: Meter, stream: str, subject: str, name: str, concurrency: int) -> Binding | None:
    tick = meter.tick

    @consume(subject, stream=stream, name=name, concurrency=concurrency, output=f"out.{name}.x")
    async def handler(order: Order) -> Order:
        tick()
        return order

    return binding_of(handler)


def real_output(meter: Meter, stream: str, subject: str, name: str, concurrency: int) -> Binding | None:
    tick = meter.tick

    @consume(
        subject.replace("*", "{customer}"),
        stream=stream,
        name=name,
        concurrency=concurrency,
        output=f"out.{name}.x",
    )
    async def handler(order: Order, customer: str, ctx: Context) -> Order:
        tick()
        return order

    return binding_of(handler)


KINDS = {"real_output": real_output, "noop": noop, "real": real, "ordered": ordered, "output": output}


def latency(latencies: Latencies, stream: str, subject: str, name: str, concurrency: int) -> Binding | None:
    record, clock = latencies.record, time.monotonic_ns

    @consume(subject, stream=stream, name=name, concurrency=concurrency)
    async def handler(message: Timed) -> None:
        record(clock() - message.sent)

    return binding_of(handler)


async def run(
    kind: str, url: str, stream: str, subject: str, name: str, total: int, concurrency: int
) -> None:
    stop = Stop()
    report: Meter | Latencies
    if kind == "latency":
        report = latencies = Latencies(total, stop.request)
        binding = latency(latencies, stream, subject, name, concurrency)
    else:
        report = meter = Meter(total, stop.request)
        binding = KINDS[kind](meter, stream, subject, name, concurrency)
    assert binding is not None
    project = Project(Path(), "bench", (binding,))
    settings = Settings(name="bench", nats_url=url)
    await serve(
        project,
        settings,
        functions=project.functions,
        stop=stop,
        ready=lambda: print("ready", flush=True),
    )
    report.report()


def main() -> None:
    kind, url, stream, subject, name, total, concurrency, *profile = sys.argv[1:]
    running = run(kind, url, stream, subject, name, int(total), int(concurrency))
    if not profile:
        loop.run(lambda: running)
        return
    profiler = cProfile.Profile()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        profiler.enable()
        runner.run(running)
        profiler.disable()
    pstats.Stats(profiler).sort_stats(profile[0]).print_stats(30)


if __name__ == "__main__":
    main()
