"""The clients that are compared, each as a contender on a filled stream."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import msgspec

from benchmarks import asking as both
from benchmarks import contender
from benchmarks import golang as golang_program
from benchmarks.arena import Arena, Stored
from benchmarks.contender import Contender, Skipped
from benchmarks.meter import Measured
from benchmarks.natsio_loop import VARIABLE
from benchmarks.ours import Task

LEAST_REQUESTS = 1000
WIDE = 1000
"""Concurrency of ours and window of the others, where a section says nothing else."""
OFF, DEFAULT, ALL = "tracing off", "default tracing", "every message traced"


def jetrunner(
    arena: Arena,
    stored: Stored,
    name: str,
    *,
    tracing: str = OFF,
    shards: int = 0,
    base: bool = False,
    at: int | None = None,
    concurrency: int | None = WIDE,
    **task: Any,
) -> Contender:
    """The real `serve`; `shards` of the stream where the function is ordered, `concurrency` None leaves the default."""

    def run(run: str) -> Measured:
        env = traced(arena, tracing)
        done = Task(
            url=arena.server.url,
            stream=stored.stream,
            subject=stored.subject,
            name=run,
            messages=stored.messages,
            concurrency=concurrency,
            ordered=bool(shards),
            **task,
        )
        with outputs(arena, run, stored.messages if done.output else 0):
            measured = contender.python("ours", msgspec.json.encode(done).decode(), env=env)
            durable = f"bench-{run}"
            durables = [durable]
            if shards:
                durables = [f"{durable}-1-{shard}" for shard in range(shards)]
            elif done.functions > 1:
                durables = [f"{durable}_{number}" for number in range(done.functions)]
            contender.check(arena.server, stored.stream, durables, stored.messages)
        if env is None:
            return measured
        return msgspec.structs.replace(measured, spans=arena.sink.taken())

    spans = stored.messages * (2 if task.get("output") else 1) if tracing == ALL else None
    return Contender(
        name=f"jetrunner, {name}", messages=stored.messages, run=run, base=base, at=at, spans=spans
    )


def traced(arena: Arena, tracing: str) -> dict[str, str] | None:
    """The environment that makes it so."""
    if tracing == OFF:
        return None
    sampler = {"OTEL_TRACES_SAMPLER": "always_on"} if tracing == ALL else {}
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": arena.sink.endpoint, **sampler}


@contextmanager
def outputs(arena: Arena, run: str, total: int) -> Iterator[None]:
    """A stream for one output of each input, where there are any: as many are there in the end, and it goes."""
    if not total:
        yield
        return
    stream = f"OUT_{run}"
    arena.server.stream(stream, f"out.{run}.*")
    yield
    stored = arena.server.api(f"STREAM.INFO.{stream}")["state"]["messages"]
    if stored != total:
        raise RuntimeError(f"{run}: {stored} outputs of {total} inputs")
    arena.server.api(f"STREAM.DELETE.{stream}")


def nats_py(
    arena: Arena,
    stored: Stored,
    name: str,
    kind: str = "noop",
    *,
    window: int = WIDE,
    at: int | None = None,
    base: bool = False,
    **consumer: Any,
) -> Contender:
    """The bare loops: nats-py reads the headers of every message that has some before its callback sees it."""

    def run(run: str) -> Measured:
        arena.server.consumer(stored.stream, run, **consumer)
        given = (kind, arena.server.url, stored.stream, run, run, stored.messages, window)
        with outputs(arena, run, stored.messages if kind.startswith("publish") else 0):
            measured = contender.python("bare", *given)
            contender.check(arena.server, stored.stream, [run], stored.messages)
        return measured

    return Contender(name=f"nats-py, {name}", messages=stored.messages, run=run, at=at, base=base)


def asking(arena: Arena, kind: str, in_flight: int, part: int) -> Contender | Skipped:
    """Requests: one process asks, another answers."""
    name = f"{kind}, {in_flight:,} in flight"
    requests = max(LEAST_REQUESTS, arena.messages // part)
    if kind == both.GO:
        try:
            golang_program.asking()
        except golang_program.NotAtHandError as error:
            return Skipped(name, str(error))

    def run(_: str) -> Measured:
        env = traced(arena, DEFAULT) if kind == both.JETRUNNER else None
        measured = both.run(kind, arena.server.url, requests, in_flight, env)
        return measured if env is None else msgspec.structs.replace(measured, spans=arena.sink.taken())

    return Contender(
        name=name,
        messages=requests,
        run=run,
        at=in_flight,
        base=kind == both.NATS_PY,
    )


def natsio(arena: Arena, stored: Stored) -> Contender | Skipped:
    name = "natsio, consume"
    interpreter = os.environ.get(VARIABLE)
    if not interpreter:
        return Skipped(name, f"{VARIABLE} names no Python ≥3.13 with natsio, msgspec and uvloop")
    needed = [interpreter, "-c", "import msgspec, natsio, uvloop; natsio.connect"]
    try:
        tried = subprocess.run(needed, capture_output=True, text=True, check=False)
    except OSError as error:
        return Skipped(name, f"{VARIABLE}={interpreter}: {error.strerror}")
    if tried.returncode:
        return Skipped(name, f"{VARIABLE}={interpreter}: {tried.stderr.strip().splitlines()[-1]}")

    def run(run: str) -> Measured:
        arena.server.consumer(stored.stream, run)
        given = (arena.server.url, stored.stream, run, stored.messages, WIDE)
        measured = contender.python("natsio_loop", *given, interpreter=interpreter)
        contender.check(arena.server, stored.stream, [run], stored.messages)
        return measured

    return Contender(name=name, messages=stored.messages, run=run)


def faststream(
    arena: Arena,
    stored: Stored,
    kind: str = "noop",
    batch: int = WIDE,
    *,
    name: str = "",
    tracing: str = OFF,
    at: int | None = None,
) -> Contender | Skipped:
    """With `tracing`, its OpenTelemetry middleware; a message without headers has two spans of it."""
    default = f"{'batch subscriber' if kind == 'batch' else 'batch'} {batch}"
    name = f"FastStream, {name or default}"
    if not find_spec("faststream"):
        return Skipped(name, "install the dependency group `bench`")

    def run(run: str) -> Measured:
        given = (kind, arena.server.url, stored.stream, stored.subject, run, stored.messages, batch)
        env = traced(arena, tracing)
        measured = contender.python("fast_stream", *given, env=env)
        contender.check(arena.server, stored.stream, [run], stored.messages)
        return measured if env is None else msgspec.structs.replace(measured, spans=arena.sink.taken())

    spans = None if tracing == OFF else 2 * stored.messages
    return Contender(name=name, messages=stored.messages, run=run, spans=spans, at=at)


def golang(arena: Arena, stored: Stored) -> Contender | Skipped:
    name = f"nats bench js consume (Go), batch {WIDE}"
    if not contender.go_client():
        return Skipped(name, "no `nats` on PATH or in ~/go/bin")

    def run(run: str) -> Measured:
        arena.server.consumer(stored.stream, run)
        measured = contender.go(arena.server, stored.stream, run, stored.messages, WIDE)
        contender.check(arena.server, stored.stream, [run], stored.messages)
        return measured

    return Contender(name=name, messages=stored.messages, run=run)
