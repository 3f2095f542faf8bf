"""One contender's run: a process of its own against the server, and the proof that it did all of its work."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.meter import Measured
from benchmarks.server import Server

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 600


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one run showed."""

    rate: float
    """Messages a second."""
    cpu: float
    """Microseconds of CPU a message, of the contender's whole process."""
    server_cpu: float
    """The same of nats-server, over the contender's whole life: warm-up, start and end included."""
    memory: float
    """Most megabytes that the contender's process had in memory; 0 where it does not say."""
    spans: int | None = None
    """Spans that reached the sink, where traces go to one."""
    p50: float | None = None
    p99: float | None = None
    """Milliseconds within which half of the requests, and 99 of 100, were answered, where that is measured."""


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """Something that handles messages; `run` is given a name that no run had before."""

    name: str
    messages: int
    run: Callable[[str], Measured]
    base: bool = False
    """Those that follow are compared with it, as all are with the first of a section."""
    at: int | None = None
    """Its place on the axis, in a section that shows how cost grows."""
    spans: int | None = None
    """How many spans it makes, where every message is traced."""


class Skipped(msgspec.Struct, frozen=True):
    """A contender that is missing here."""

    name: str
    reason: str


def sample(contender: Contender, server: Server, run: str) -> Sample:
    before = server.cpu
    measured = contender.run(run)
    server_cpu = (server.cpu - before) / (measured.messages or contender.messages) * 1e6
    return Sample(
        measured.rate, measured.cpu, server_cpu, measured.memory, measured.spans, measured.p50, measured.p99
    )


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would set up a contender from outside; no traces unless asked."""
    kept = {name: value for name, value in os.environ.items() if not re.match("(OTEL|NATS|JETRUNNER)_", name)}
    return kept | ({"OTEL_SDK_DISABLED": "true"} if extra is None else dict(extra))


@contextmanager
def spawned(
    module: str, *arguments: object, env: Mapping[str, str], interpreter: str = sys.executable
) -> Iterator[subprocess.Popen[str]]:
    """A module of this package as a process, which does not outlive the block."""
    with started([interpreter, "-m", f"benchmarks.{module}", *map(str, arguments)], env) as process:
        yield process


@contextmanager
def started(command: Sequence[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block."""
    with subprocess.Popen(command, cwd=ROOT, env=dict(env), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end and return the last line; RuntimeError when the process failed."""
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    if process.returncode or not output.strip():
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {output}")
    return output.strip().splitlines()[-1]


def python(
    module: str,
    *arguments: object,
    env: Mapping[str, str] | None = None,
    interpreter: str = sys.executable,
) -> Measured:
    with spawned(module, *arguments, env=environment(env), interpreter=interpreter) as process:
        return msgspec.json.decode(finish(process), type=Measured)


def check(server: Server, stream: str, consumers: list[str], total: int) -> None:
    """Everything is acknowledged, and nothing came twice; the consumers are gone afterwards."""
    infos = server.each([f"CONSUMER.INFO.{stream}.{name}" for name in consumers])
    left = sum(info["num_pending"] + info["num_ack_pending"] for info in infos)
    delivered = sum(info["delivered"]["consumer_seq"] for info in infos)
    if left or delivered != total:
        raise RuntimeError(f"{consumers[0]}: {left} of {total} messages are left, {delivered} deliveries")
    server.each([f"CONSUMER.DELETE.{stream}.{name}" for name in consumers])


# -- Go ---------------------------------------------------------------------------------------------------


def go_client() -> str | None:
    """The `nats` command line, where it is at hand."""
    at_home = Path.home() / "go" / "bin" / "nats"
    return shutil.which("nats") or (str(at_home) if at_home.exists() else None)


def go(server: Server, stream: str, consumer: str, total: int, window: int) -> Measured:
    """`nats bench js consume`: its own rate, and the CPU of the whole process from start to end."""
    command: list[Any] = [go_client(), "bench", "js", "consume", "--server", server.url, "--stream", stream]
    command += ["--consumer", consumer, "--msgs", str(total), "--batch", str(window), "--no-progress"]
    before = children()
    done = subprocess.run(
        command,
        env=environment() | {"XDG_CONFIG_HOME": server.store},  # no context of the user's
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    cpu = (children() - before) / total * 1e6
    found = re.search(r"([\d,]+) msgs/sec", done.stdout + done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"nats bench said: {done.stdout}{done.stderr}")
    return Measured(float(found[1].replace(",", "")), cpu)


def children() -> float:
    """Seconds of CPU of the children waited for so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
