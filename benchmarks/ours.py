"""Jetrunner as a contender: the real `serve` with `@consume` functions, in a process of its own.

python -m benchmarks.ours TASK, which is a Task in JSON
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import pstats
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import uvloop

from benchmarks import burn
from benchmarks.burn import Kind
from benchmarks.meter import Meter
from benchmarks.timing import Latencies
from benchmarks.workload import Order, Timed
from runner import Context, consume
from runner.bindings import Binding, binding_of
from runner.cli import loop
from runner.config import Settings
from runner.discovery import Project
from runner.process.app import Serving, serve
from runner.runtime.stop import Stop

COMPUTED_NS = 100_000
"""CPU that the computing handler uses."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What this process is to handle, and how."""

    url: str
    stream: str
    subject: str
    """Ends in `*`, the customer's token."""
    name: str
    messages: int
    handler: str = "noop"
    concurrency: int | None = None
    """The default, where None."""
    ordered: bool = False
    """By the customer."""
    batch: int = 0
    """Messages in a batch; 0: one by one."""
    batch_by: str = "key"
    output: bool = False
    functions: int = 1
    """So many share the work: the first reads the customer `c0`, the second `c1`, and so on."""
    beside: Kind | Literal[""] = ""
    """A function that computes runs beside, of this kind."""


Handler = Callable[..., Awaitable[object]]


def handlers(tick: Callable[[], None]) -> dict[str, Handler]:
    async def noop(order: Order) -> None:
        tick()

    async def noop_output(order: Order) -> Order:
        tick()
        return order

    async def real(order: Order, customer: str, ctx: Context) -> None:
        tick()

    async def real_output(order: Order, customer: str, ctx: Context) -> Order:
        tick()
        return order

    async def compute(order: Order) -> None:
        tick()
        end = time.thread_time_ns() + COMPUTED_NS
        while time.thread_time_ns() < end:
            pass

    async def await_1(order: Order) -> None:
        tick()
        await asyncio.sleep(0.001)

    async def await_10(order: Order) -> None:
        tick()
        await asyncio.sleep(0.01)

    async def real_batch(orders: list[Order], customer: list[str], ctx: Context) -> None:
        for _ in orders:
            tick()

    found: list[Handler] = [real_batch, noop, noop_output, real, real_output, compute, await_1, await_10]
    return {handler.__name__: handler for handler in found}


def timing(latencies: Latencies) -> Handler:
    record, clock = latencies.record, time.monotonic_ns

    async def latency(message: Timed) -> None:
        record(clock() - message.sent)

    return latency


def bound(task: Task, make: Callable[[], Handler]) -> tuple[Binding, ...]:
    options: dict[str, Any] = {"stream": task.stream}
    if task.concurrency is not None:
        options["concurrency"] = task.concurrency
    if task.ordered:
        options["ordered_by"] = "customer"
    if task.batch:
        options |= {"batch": task.batch, "batch_by": task.batch_by}
    if task.output:
        options["output"] = f"out.{task.name}.x"
    if task.functions > 1:  # each with a handler of its own: a function has one binding
        names = {f"{task.name}_{n}": task.subject.replace("*", f"c{n}") for n in range(task.functions)}
    elif task.ordered or task.handler.startswith("real"):
        names = {task.name: task.subject.replace("*", "{customer}")}
    else:
        names = {task.name: task.subject}
    return tuple(binding(consume(subject, name=name, **options)(make())) for name, subject in names.items())


def binding(function: object) -> Binding:
    found = binding_of(function)
    assert found is not None
    return found


async def run(task: Task) -> None:
    stop = Stop()
    report: Meter | Latencies
    if task.handler == "latency":
        report = latencies = Latencies(task.messages, stop.request)
        bindings = bound(task, lambda: timing(latencies))
    else:
        report = meter = Meter(task.messages, stop.request)
        kind = f"{task.handler}_output" if task.output else task.handler
        bindings = bound(task, lambda: handlers(meter.tick)[kind])
    if task.beside:
        bindings += (burn.binding(task.beside),)
    project = Project(Path(), "bench", bindings)
    await serve(
        Serving(
            project=project,
            settings=Settings(name="bench", nats_url=task.url),
            functions=project.functions,
            stop=stop,
            ready=lambda _: print("ready", flush=True),
            given=burn.given(task.beside) if task.beside else None,
        )
    )
    report.report()


def main() -> None:
    task = msgspec.json.decode(sys.argv[1], type=Task)
    if "BENCH_PROFILE" not in os.environ:
        loop.run(lambda: run(task))
        return
    profiler = cProfile.Profile()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        profiler.enable()
        runner.run(run(task))
        profiler.disable()
    pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
