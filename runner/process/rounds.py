"""The rounds of a running process: work that it does again and again, whether or not a message comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from runner.consumers.throttling import Throttling
from runner.pipeline.relay import Relay
from runner.process.function import Function
from runner.process.served import Served
from runner.process.watchdog import Watchdog
from runner.runtime.runtime import Runtime
from runner.services.responder import Responder

SWEEP_SECONDS = 0.1
REMEMBER_SECONDS = 5.0
BUCKET_SECONDS = 1.0
THROTTLE_SECONDS = 1.0


class Answerers(Protocol):
    """Answers requests, over NATS or HTTP."""

    @property
    def responders(self) -> Sequence[Responder]:
        """The functions that answer."""

    def sweep(self, now: float) -> None:
        """Check deadlines; called about ten times a second."""


async def sweep(
    runtime: Runtime, functions: Sequence[Function], relay: Relay, answering: Sequence[Answerers]
) -> None:
    """Check deadlines, ack waits and silent servers, allow new traces, and count rates: one loop ten times a second for all."""
    watchdog = Watchdog()
    watchdog.start()
    marked = 0.0
    try:
        while True:
            watchdog.beat()
            now = time.monotonic()
            for function in functions:
                function.sweep(now)
                function.pipeline.stats.collect()
            relay.sweep(now)
            for each in answering:
                each.sweep(now)
            runtime.tracing.gate.refill(now)
            if now - marked >= 1.0:
                marked = now
                responders = [responder for each in answering for responder in each.responders]
                every: list[Served] = [*functions, *responders]
                for served in every:
                    served.stats.mark(now)
            await asyncio.sleep(SWEEP_SECONDS)
    finally:
        watchdog.stop()


async def remember(runtime: Runtime, functions: Sequence[Function]) -> None:
    """Save the floors of durables, and notice streams that have a new history; every 5 s."""
    while True:
        await runtime.histories.keep()
        for function in functions:
            await function.keep()
        await anyio.sleep(REMEMBER_SECONDS)


async def watch_bucket(runtime: Runtime) -> None:
    """Notice when the bucket has a new history; every second."""
    while True:
        await runtime.histories.look(runtime.histories.bucket, thorough=False)
        await anyio.sleep(BUCKET_SECONDS)


async def throttle(runtime: Runtime, functions: Sequence[Function]) -> None:
    """Throttle functions that fail far more often here than in other instances. Ordered ones are not: a shard has one owner."""
    each = Throttling(runtime, [each.durables for each in functions if each.durables is not None])
    while True:
        await anyio.sleep(THROTTLE_SECONDS)
        await each.look(time.monotonic())


def start_rounds(tasks: TaskGroup, runtime: Runtime, functions: Sequence[Function]) -> None:
    """Start all rounds but the sweep, which begins before the first message comes."""
    tasks.start_soon(remember, runtime, functions)
    tasks.start_soon(watch_bucket, runtime)
    tasks.start_soon(throttle, runtime, functions)
