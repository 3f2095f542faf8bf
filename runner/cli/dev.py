"""`runner dev`: starts a server for the project, applies its streams, reloads on a change, and prints a line for each invocation."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
import click
from msgspec import structs

from runner import devserver
from runner.cli import failure, loop, options, stopsignals
from runner.cli.invocation import KEPT
from runner.cli.options import Workplace
from runner.cli.tracing import tell_collector
from runner.config import redact
from runner.core import shown
from runner.core.streams.config import Change
from runner.core.streams.plan import StreamPlan
from runner.errors import JetrunnerError, Unreachable, UsageError
from runner.jetstream.connection import connect
from runner.process import devport, devtraces, http, natsserver
from runner.process.reload import Reloader, WorkerStart
from runner.process.watch import Watch, is_possible
from runner.runtime.stop import Stop
from runner.streams.plan import apply_streams, load_streams

DRAIN_SECONDS = 5.0
"""Most seconds that running handlers get to finish before a reload."""


@click.command("dev", epilog="Example: runner dev")
@click.option("--reset", is_flag=True, help="Delete what its own server has stored, and start over.")
@options.output_option
@options.connected
def dev_command(output: str, reset: bool) -> None:
    """Run the project here, and again whenever its code, a file in functions/ or streams/, or pyproject.toml changes.

    Its code is every module that functions may import from this folder, or from others that are not installed packages. Watching
    needs watchfiles, which comes with the extra `dev`; without it nothing reloads.

    Unless a NATS address is set, a nats-server of the project's own is started; its port stays the same, and what it stores stays
    in .jetrunner/. Streams are applied; a change that could lose messages is reported and left out. Every invocation prints a line:
    ✓ acknowledged, ↻ retried, ✗ a dead letter, with a link to its trace. If a file has a mistake, it is shown, and the last good
    version goes on running. The lifespan of a new version begins once that of the previous one has ended; if it fails, nothing runs
    until the next change.
    """
    place = options.project(dev_server=False)
    if reset and place.nats_is_set:
        raise UsageError(
            "--reset is for the server of `runner dev`, and another one is set",
            hint="leave out the NATS address, or delete its streams with the `nats` command",
        )
    loop.run(lambda: dev(place, output, reset=reset), fast=False)


async def dev(place: Workplace, output: str, *, reset: bool = False) -> None:
    """Run until Ctrl-C or SIGTERM; `reset`: first delete what the project's own server has stored."""
    watch = Watch(place.root, _tell) if is_possible() else None
    if watch is None:
        _tell("watchfiles is missing: a change needs a new start (install jetrunner with its extra `dev`)")
    async with _nats(place, reset=reset) as here:
        _tell(f"NATS at {redact(here.settings.nats_url)}", _advice(here))
        with devtraces.kept(here.root, os.environ) as traced:
            listens = await tell_collector(kept=bool(traced))
            await _run(
                here,
                watch,
                output,
                alone=not place.nats_is_set,
                traced={**traced, **({KEPT: "1"} if traced and not listens else {})},
            )
        _tell(f"ended; {'what was stored stays in .jetrunner/' if not place.nats_is_set else 'goodbye'}")


async def _run(
    here: Workplace, watch: Watch | None, output: str, *, alone: bool, traced: Mapping[str, str]
) -> None:
    """Run the project until it is told to stop.

    `alone`: it has a NATS server of its own. `traced` has the environment variables that say where its spans go.
    """
    drain = min(here.settings.drain_timeout, DRAIN_SECONDS)
    arguments = [
        "run",
        *options.arguments(here),
        "--workers",
        "1",
        "--each",
        output,
        "--drain-timeout",
        f"{drain}",
        *(["--alone"] if alone else []),
    ]
    listening = _http(here)
    if listening is not None:
        arguments += ["--http-fd", str(listening.fileno())]
    first = True
    told: set[str] = set()

    async def prepare() -> bool:
        nonlocal first
        try:
            streams = load_streams(here.root)
            async with connect(here.settings) as connection:
                plan = await apply_streams(connection, streams, here.settings.name, partly=True)
        except JetrunnerError as error:
            if first and isinstance(error, Unreachable):
                raise
            failure.say(str(error), error.hint)
            return False
        finally:
            first = False
        for stream in plan.changed:
            _tell(f"stream {stream.name}: {stream.action}d")
        refused = {_refused(stream, change): None for stream, change in plan.unsafe}
        for sentence in refused:
            if sentence not in told:
                failure.say(sentence)
        told.clear()
        told.update(refused)
        return True

    stop = Stop()
    reloader = Reloader(
        WorkerStart(
            arguments,
            {**options.environment(here), **traced},
            [listening.fileno()] if listening is not None else [],
        ),
        watch=watch,
        prepare=prepare,
        told=_tell,
        drain_timeout=drain,
    )
    with stopsignals.stopping(stop, before_exit=reloader.kill):
        await reloader.run(stop)


@asynccontextmanager
async def _nats(place: Workplace, *, reset: bool) -> AsyncIterator[Workplace]:
    """The workplace with a NATS server that runs: the one that is set, or the project's own, which is started here."""
    if place.nats_is_set:
        yield place
        return
    async with (
        natsserver.server(place.root, _tell, empty=reset) as server,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(server.keep, _tell)
        with devserver.announced(place.root, server.url):
            yield structs.replace(
                place,
                settings=structs.replace(place.settings, nats_url=server.url),
                given={**place.given, "nats_url": server.url},
            )
        tasks.cancel_scope.cancel()


def _http(place: Workplace) -> socket.socket | None:
    """The socket for functions with `@route`, on a port that stays the same; held by this process, so that no reload loses a connection.

    None without the extra `http`.
    """
    if not http.is_possible():
        return None
    from runner.gateway import sockets  # noqa: PLC0415  with an extra

    folder = place.root / devserver.FOLDER  # without this folder, the port is derived again each time
    return sockets.bound(place.settings.http or f"127.0.0.1:{devport.choose(folder, devport.HTTP_FILE)}")


def _refused(stream: StreamPlan, change: Change) -> str:
    return f"stream {stream.name} stays as it is ({stream.file}): {change.field}: {change.why}"


def _advice(place: Workplace) -> str:
    """How to publish a first message; --nats-url is needed only if it was given here, else other commands find the server."""
    given = place.nats_is_set and place.given.get("nats_url")
    return f"publish: runner publish {f'--nats-url {redact(given)} ' if given else ''}SUBJECT BODY"


def _tell(*lines: str) -> None:
    for line in lines:
        click.echo(f"{click.style('dev', fg='cyan', bold=True)} {shown.line(line)}", err=True)
