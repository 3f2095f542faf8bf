"""The drain: all parts of a process are asked to stop at once, running handlers may finish, and one time limit holds for all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio

from runner.cluster.ownership import Ownership
from runner.pipeline.relay import Relay
from runner.process.function import Function, Intake
from runner.runtime.runtime import Runtime
from runner.runtime.stop import Stop, together, unless
from runner.services.service import Service

if TYPE_CHECKING:
    from runner.gateway.edge import Edge

log = logging.getLogger("jetrunner")

ABANDON_SECONDS = 2.0
"""Time to give back cancelled messages; later the server delivers them again by itself."""
REMEMBER_SECONDS = 1.0


class Running(NamedTuple):
    """The parts of a process that a drain ends."""

    functions: Sequence[Function]
    relay: Relay
    shards: Ownership
    service: Service
    web: Edge | None = None


async def drain(runtime: Runtime, running: Running, stop: Stop) -> None:
    """Give back messages that have not started, let the others finish, and cancel them when that takes too long.

    Requests that have come are answered: they cannot be given back.
    """
    functions, relay, shards, service, web = running
    log.info("draining")
    give_up = time.monotonic() + runtime.settings.drain_timeout
    for function in functions:
        function.pipeline.suspects.excuse()
    sources: list[Intake | Relay] = [*(each.intake for each in functions), relay]
    with anyio.move_on_after(runtime.settings.drain_timeout):  # each step takes round trips to the server
        ways = [service.leave, *(source.stop_pulling for source in sources)]
        if web is not None:
            ways.append(web.leave)
        await unless(stop.cancelling, partial(together, ways))
    runtime.quarantine.draining = True
    if shards.needed:
        runtime.tasks.start_soon(shards.leave)
    runtime.connection.wire.flush()
    while (
        service.unsettled
        or (web is not None and web.unsettled)
        or any(source.unsettled for source in sources)
        or (shards.needed and not shards.left)
    ):
        if stop.cancelling.is_set() or time.monotonic() > give_up or runtime.connection.closed.is_set():
            service.give_up()
            if web is not None:
                web.give_up()
            left = (
                service.unsettled
                + (web.unsettled if web is not None else 0)
                + sum(function.unsettled for function in functions)
            )
            log.warning("cancelling what still runs: %d", left)
            await runtime.slots.end()  # first: a message that is given back may start elsewhere at once
            with anyio.move_on_after(ABANDON_SECONDS):
                await together(source.abandon for source in sources)
            break
        await asyncio.sleep(0.01)
    runtime.connection.wire.flush()
    with anyio.move_on_after(REMEMBER_SECONDS):
        await service.close()
    if web is not None:
        with anyio.move_on_after(REMEMBER_SECONDS):
            await web.close()
    # With its floor saved, a durable that is deleted before the next start goes on where it was.
    with anyio.move_on_after(REMEMBER_SECONDS):
        await together(each.durables.remember for each in functions if each.durables is not None)
