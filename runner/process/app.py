"""The running process: start everything, watch over it, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import anyio
import anyio.to_thread
from msgspec import Struct

from runner.bindings import Binding
from runner.cluster.members import Members
from runner.cluster.ownership import Ownership
from runner.config import Settings
from runner.core import identity
from runner.discovery import Project
from runner.errors import JetrunnerError, Unreachable, several
from runner.gathers import marking
from runner.jetstream import ownstreams
from runner.jetstream.connection import Connection, connect
from runner.jetstream.publisher import retry_until
from runner.jetstream.server import check_server, led
from runner.jetstream.topology import Topology
from runner.pipeline.relay import Relay
from runner.process.drain import Running, drain
from runner.process.ended import lost, single
from runner.process.function import Function
from runner.process.health import Health
from runner.process.http import OverHttp, follow, open_web, tell_unserved, web
from runner.process.lifespan import alive
from runner.process.minutes import Minutes
from runner.process.newcomers import warn_of_newcomers
from runner.process.resolve import places_now
from runner.process.rounds import Answerers, start_rounds, sweep
from runner.process.schedules import Schedules, keep, stand
from runner.process.sentmetrics import sending
from runner.process.served import Served, warn_of_stored
from runner.process.status import StatusAnswers, Work
from runner.runtime.cellline import GivenFunctions
from runner.runtime.histories import START_SECONDS
from runner.runtime.refused import tell
from runner.runtime.runtime import Instance, Observer, Runtime
from runner.runtime.stop import Stop
from runner.services.service import Service, require_apart
from runner.telemetry import settings as telemetry
from runner.telemetry.collector import listens
from runner.telemetry.tracing import Tracing

log = logging.getLogger("jetrunner")

SHUTDOWN_SECONDS = 3.0
"""Time that telemetry gets to send its last spans."""
PATIENCE_SECONDS = 5.0


async def always() -> bool:
    """Start at once: nothing is waited for."""
    return True


class Serving(Struct, frozen=True, kw_only=True):
    """What one process runs, and who is told of it."""

    project: Project
    settings: Settings
    functions: Sequence[Binding]
    """The functions of the project that run here."""
    stop: Stop
    supervised: bool = False
    """Whether another process watches over this one, and tells when no collector takes traces."""
    may_start: Callable[[], Awaitable[bool]] = always
    """Awaited once every function's stream is found, before anything is made or a message is taken; False ends the process."""
    ready: Callable[[Sequence[Served]], None] = lambda functions: None
    """Called once all functions work."""
    observer: Observer | None = None
    schedules: Schedules = "stand"
    given: GivenFunctions | None = None
    """How a child process gets the functions, if they are not in the project's folder."""
    http: OverHttp | None = None
    """Where functions with `@route` are served; None: they do not run here."""


async def serve(serving: Serving) -> None:
    """Run functions until they are asked to stop; returns once everything is settled, given back and closed.

    Raises the JetrunnerError family: `Unreachable` also when the server closes the connection for good.
    """
    project, settings, stop = serving.project, serving.settings, serving.stop
    destination = telemetry.load(os.environ)
    tracing = Tracing(destination, project.name)
    if serving.supervised and not await anyio.to_thread.run_sync(listens, destination):
        tracing.presume_missing()
    tracing.install()
    try:
        async with connect(
            settings, patience=PATIENCE_SECONDS, name=f"jetrunner {project.name}"
        ) as connection:
            try:
                await led(connection, settings.leader_timeout, log.warning)
                await check_server(connection, START_SECONDS)
                tracing.at(connection.url)
                tracing.tells_messages = settings.log_format == "json"
                started = asyncio.Event()
                with anyio.CancelScope() as starting:
                    early = asyncio.create_task(give_up(stop, started, starting))
                    try:
                        await _serve(serving, connection, tracing, started)
                    finally:
                        early.cancel()
            except (BaseExceptionGroup, JetrunnerError) as raised:
                error = single(raised) if isinstance(raised, BaseExceptionGroup) else raised
                raise lost(connection, error) or error from None
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(tracing.shutdown, SHUTDOWN_SECONDS)
        if tracing.lost:
            log.info("%d spans did not arrive at their collector since the start", tracing.lost)


class Kinds(NamedTuple):
    """The functions that run here: those that read messages, answer requests, or answer HTTP requests."""

    reading: Sequence[Binding]
    answering: Sequence[Binding]
    routed: Sequence[Binding]


def kinds(serving: Serving) -> Kinds:
    """Sort the functions; those with `@route` run only if HTTP is served. Raises UsageError if two answer the same requests."""
    if errors := require_apart(serving.functions):
        raise several(errors)
    every = serving.functions
    reading = marking([each for each in every if each.consumes], serving.project.functions)
    routed = [each for each in every if each.route is not None]
    if serving.http is None:
        tell_unserved(routed)
        routed = []
    return Kinds(reading, [each for each in every if each.answers is not None], routed)


async def _serve(serving: Serving, connection: Connection, tracing: Tracing, started: asyncio.Event) -> None:
    project, found, topology = serving.project, kinds(serving), Topology(connection)
    placed = await retry_until(
        lambda: places_now(topology, (*found.reading, *found.routed), project.root),
        START_SECONDS,
        "the list of streams",
    )
    warn_of_stored(found.answering, topology)
    if not await serving.may_start():
        return
    if serving.functions:
        await make_own_streams(connection, topology, placed)
    connection.in_flight.expect(sum(binding.most for binding in found.reading))
    async with anyio.create_task_group() as tasks:
        runtime = Runtime(
            Instance(
                project=project.name,
                name=identity.instance(socket.gethostname(), os.getpid(), secrets.token_hex(4)),
                settings=serving.settings,
                root=project.root,
                given=serving.given,
            ),
            connection,
            topology,
            tracing,
            tasks,
            serving.observer,
        )
        await warn_of_newcomers(runtime, placed, project.functions)
        await stand(runtime, found.reading, serving.schedules)
        async with alive(project) as runtime.state, runtime.cells, runtime.children, runtime.slots:
            await _run(serving, runtime, placed, found, started)
        connection.wire.deafen()
        tasks.cancel_scope.cancel()


async def _run(
    serving: Serving,
    runtime: Runtime,
    placed: Sequence[tuple[Binding, str]],
    found: Kinds,
    started: asyncio.Event,
) -> None:
    """Start all parts of the process, run until it is asked to stop, and drain it."""
    connection, settings, stop, tasks = runtime.connection, serving.settings, serving.stop, runtime.tasks
    ordered = [binding.function for binding, _ in placed if binding.ordered_by]
    members = Members(runtime, ordered, runtime.instance)
    running = [Function(runtime, binding, stream, members.own) for binding, stream in placed]
    shards = Ownership(runtime, members, [each.shards for each in running if each.shards is not None])
    relay, service = Relay(runtime), Service(runtime, found.answering, serving.project.version)
    served = web(runtime, serving.project, found.routed, serving.http)
    edge = served.edge if served is not None else None
    answering: list[Answerers] = [service] if edge is None else [service, edge]
    responders = [responder for each in answering for responder in each.responders]
    every: list[Served] = [*running, *responders]
    asked = runtime.requester.callees
    told = responders, edge, asked, lambda: runtime.tracing.lost
    health = Health(running, lambda: unready(connection, stop, every), *told)
    sent = sending(tasks, runtime.project, runtime.instance, health.families)
    async with health.listen(settings.health) if settings.health else nullcontext(), sent:
        # The sweep is first, with its watchdog: the very first message may block the loop.
        tasks.start_soon(sweep, runtime, running, relay, answering)
        started.set()  # from here on there may be something to drain
        # Answers come before functions begin: an instance that begins asks the others what they read.
        minutes = Minutes(connection, runtime.project, runtime.instance, running, responders)
        work = Work(running, responders, asked)
        await StatusAnswers(connection, runtime.project, runtime.instance, work, minutes).open()
        await members.listen()
        await begin(running)
        if ordered:
            await shards.start()
            tasks.start_soon(shards.run)
        if serving.functions:
            await relay.start()
            start_rounds(tasks, runtime, running)
            tasks.start_soon(minutes.run)
        if serving.schedules != "none":
            tasks.start_soon(keep, runtime, found.reading)
        tasks.start_soon(tell, connection.inbox.denials)
        await service.open()
        if served is not None:
            await open_web(served)
            tasks.start_soon(follow, served)
        names = ", ".join(each.binding.both_names for each in every)
        log.info("ready: %s, connected to %s", names or "routes alone", connection.url)
        serving.ready(every)
        await first(tasks, stop.draining, connection.closed)
        if connection.closed.is_set():
            stop.ending(Unreachable.exit_code)
            raise Unreachable(
                "the server closed the connection for good", hint="see the server's log for the reason"
            )
        await drain(runtime, Running(running, relay, shards, service, edge), stop)
        await minutes.end()
        stop.ending(0)


async def begin(functions: Sequence[Function]) -> None:
    """Have all functions read their messages. All are prepared first: if the server refuses one, none has worked yet."""
    for function in functions:
        await function.intake.prepare()
    for function in functions:
        await function.intake.start()


async def make_own_streams(
    connection: Connection, topology: Topology, placed: Sequence[tuple[Binding, str]]
) -> None:
    """Make sure of our own streams, with as many replicas as the streams that the functions read and write."""
    outputs = [binding.output.wildcard for binding, _ in placed if binding.output is not None]
    replicas = topology.replicas([stream for _, stream in placed], outputs)
    gathers = any(binding.joins is not None for binding, _ in placed)
    await retry_until(
        lambda: ownstreams.ensure_all(connection, replicas, gathers=gathers), START_SECONDS, "our own streams"
    )
    await retry_until(topology.load, START_SECONDS, "the list of streams")


async def give_up(stop: Stop, started: asyncio.Event, starting: anyio.CancelScope) -> None:
    """Cancel the start if the process is asked to stop before it has started: it has nothing to drain yet."""
    await stop.draining.wait()
    if not started.is_set():
        starting.cancel()


async def first(tasks: anyio.abc.TaskGroup, *events: asyncio.Event) -> None:
    """Wait for the first of several events."""
    happened = asyncio.Event()

    async def watch(event: asyncio.Event) -> None:
        await event.wait()
        happened.set()

    for event in events:
        tasks.start_soon(watch, event)
    await happened.wait()


def unready(connection: Connection, stop: Stop, functions: Sequence[Served]) -> str:
    """Why this process should get no traffic; empty when it should."""
    if stop.draining.is_set():
        return "draining"
    if not connection.is_connected:
        return "not connected to NATS"
    if refused := connection.inbox.denials.now():
        return f"refused: {'; '.join(refused.values())}"
    return next((f"{each.binding.function}: {each.blocked}" for each in functions if each.blocked), "")
