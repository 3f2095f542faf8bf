"""The work of a cell: it imports the project, begins its lifespan, and runs one message after the other until it is not needed.

A cell settles nothing and publishes nothing: outputs go to the process that has started it. Its own connection is for the requests
of handlers.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread

from runner import codec, discovery
from runner.bindings import Binding
from runner.client import working_with
from runner.config import Settings
from runner.core import identity, raised
from runner.discovery import Project
from runner.errors import JetrunnerError, UsageError
from runner.gathers import marking
from runner.jetstream import fork
from runner.jetstream.connection import connect
from runner.jetstream.delivery import Delivery
from runner.jetstream.topology import Topology
from runner.pipeline.call import Calling
from runner.pipeline.hiding import Hiding
from runner.pipeline.message import read
from runner.pipeline.outputs import Outputs
from runner.process.lifespan import alive
from runner.runtime.cellline import Begun, CellLine, CellSetup, Job, Late, Ready, Report, UnfitCell
from runner.runtime.runtime import Instance, Runtime
from runner.telemetry import settings as telemetry
from runner.telemetry.tracing import Tracing

PATIENCE_SECONDS = 5.0
SHUTDOWN_SECONDS = 1.0
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux."""


def die_with_parent() -> None:
    """Have Linux kill this process when its parent ends. On other systems, this process ends when it sees the end of its line."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


async def serve(descriptor: int, begin: Callable[[Settings], None]) -> None:
    """Run the cell until the line of this descriptor ends; `begin` is called with the settings before anything else."""
    end = socket.socket(fileno=descriptor)
    line = await CellLine.open(end)
    setup: CellSetup | None = await line.receive()
    if setup is not None:  # else the process that has started this one is gone
        begin(setup.settings)
        with fork.ours(end.fileno):
            await _serve(line, setup)


async def _serve(line: CellLine, setup: CellSetup) -> None:
    try:
        project = _project(setup)
        tracing = Tracing(telemetry.load(os.environ), project.name)
        tracing.presume_missing()
        tracing.install()
        async with (
            connect(
                setup.settings, patience=PATIENCE_SECONDS, name=f"jetrunner {project.name} cell"
            ) as connection,
            anyio.create_task_group() as tasks,
        ):
            runtime = Runtime(
                Instance(
                    project=project.name,
                    name=identity.instance(socket.gethostname(), os.getpid(), os.urandom(4).hex()),
                    settings=setup.settings,
                    root=project.root,
                ),
                connection,
                Topology(connection),
                tracing,
                tasks,
            )
            with working_with(setup.settings):
                async with alive(project) as runtime.state, runtime.slots:
                    if setup.niceness:
                        _lower_priority(setup.niceness)
                    await line.send(Ready())
                    functions = marking(project.functions, project.functions)
                    await _work(line, runtime, {each.function: each for each in functions})
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(tracing.shutdown, SHUTDOWN_SECONDS)
    except* JetrunnerError as group:
        await line.send(UnfitCell(raised.message(_first(group))))


def _project(setup: CellSetup) -> Project:
    """The project that runs here. Raises UsageError."""
    if setup.given is None:
        return discovery.load(setup.root, setup.name)
    sys.path[:] = setup.given.path
    try:
        project: Project = pickle.loads(setup.given.project)()  # noqa: S301  # our own process sent it
    except Exception as error:  # the modules of a test may raise anything
        raise UsageError(f"the functions of a test cannot be imported: {raised.line(error)}") from error
    return project


def _lower_priority(niceness: int) -> None:
    """Lower the priority of this process, once it has begun: a message waits for that, and on a busy machine it would take ten times as long.

    Linux keeps a priority for each thread (sched(7)), and what was imported may have started some.
    """
    tasks = Path("/proc/self/task")
    for thread in [int(each.name) for each in tasks.iterdir()] if tasks.is_dir() else [0]:
        with suppress(ProcessLookupError):  # that one has ended
            os.setpriority(
                os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + niceness)
            )


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _work(line: CellLine, runtime: Runtime, functions: dict[str, Binding]) -> None:
    runs: dict[str, CellRunner] = {}
    parent = os.getppid()
    job = await line.receive()
    while job is not None:
        binding = functions.get(job.function)
        if binding is None:
            await line.send(UnfitCell(f"there is no function {job.function} in the code by now"))
            return
        await line.send(Begun())
        run = runs.setdefault(job.function, CellRunner(runtime, binding))
        following = asyncio.create_task(line.receive())
        # Every attempt runs with the context variables as the lifespan left them.
        report = runtime.slots.context.copy().run(asyncio.create_task, run(job))
        await asyncio.wait({following, report}, return_when=asyncio.FIRST_COMPLETED)
        if not report.done():
            if os.getppid() != parent:  # the parent has gone, and the message may start elsewhere
                os._exit(1)
            runtime.slots.ending = True  # no thread is waited for
            report.cancel()
            await asyncio.wait({report})
            return
        await line.send(report.result())
        job = await following


class CellRunner:
    """Runs messages of one function."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._runtime = runtime
        self._binding = binding
        self._calling = Calling(runtime, binding)
        self._outputs = Outputs(runtime, binding)

    async def __call__(self, job: Job) -> Report | Late:
        """Run one attempt, from the bytes of its message to its outputs."""
        source: Any = SimpleNamespace(number=job.shard)  # the message is settled elsewhere
        delivery = Delivery(
            job.subject, job.reply, job.header, job.body, job.sequence, job.attempt, source, careful=True
        )
        delivery.joined = job.joined
        incoming = read(delivery)
        context = self._calling.context(delivery)
        hide = Hiding.of(self._runtime.redaction, delivery)
        with self._runtime.tracing.within(self._binding.function, job.trace, hide):
            try:
                arguments = self._calling.bound(incoming, context)
            except Exception as error:  # noqa: BLE001  # a type's own validation may raise anything
                return self._report(codec.explain(error), decoding=True)
            now = time.monotonic()
            if now >= job.until:
                return Late()
            delivery.started = now
            try:
                result = await self._calling(arguments)
                made = self._outputs.collect(result, context.seal() or [], incoming)
            except BaseException as error:  # noqa: BLE001  # any exception of user code is reported
                return self._report(error)
            return Report("succeeded", made)

    def _report(self, error: BaseException, *, decoding: bool = False) -> Report:
        return Report.of(error, self._binding.retry, self._runtime.root, decoding=decoding)
