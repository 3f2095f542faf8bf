"""What the numbers were measured on, and what to think of before one believes them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from benchmarks.contender import ROOT, go_client
from benchmarks.natsio_loop import VARIABLE
from benchmarks.server import binary

PACKAGES = ("nats-py", "uvloop", "msgspec", "faststream", "opentelemetry-sdk")
NATSIO = "import natsio, platform; print(f'{natsio.__version__} on CPython {platform.python_version()}')"
CAVEATS = (
    "Clients, publisher and nats-server share this machine's cores over the loopback: no network, no TLS, one replica, one process of ours.",
    "A client that uses less CPU leaves more to the server: rates are a pair's, CPU a message is the client's own.",
    "nats-server writes to files and syncs them every two minutes, its default: a power cut is not survived.",
    "All messages wait in the stream when a contender starts: this is catching up, not following.",
    (
        "The clock starts after the first tenth of the messages. Go's tool clocks itself from its first message on, "
        "and its CPU includes its start (some 20 ms)."
    ),
    "The nats-py no-op loop, natsio's and Go's tool do not decode; ours, FastStream and the loops with outputs decode JSON into a msgspec.Struct.",
    (
        "The nats-py loops are the least code that works: no timeout, retry or lease. natsio is used as its own documentation shows, on a "
        "Python of its own. All Python runs on uvloop."
    ),
    "FastStream gets a tenth of the messages, uses its msgspec serializer, and a task for each message of a fetch.",
    "With handlers that work, the differences shrink.",
    "What a traced run has not yet sent when the clock stops is not in its CPU: some thousand spans at most.",
    "Requests: in Go both sides use `encoding/json` and all cores; a process of Python uses one. Delays are those of every request, the first tenth included.",
    "HTTP: `wrk` shares the cores; its delays with 1,000 connections are mostly time in line before one process.",
    "Latency: an unhurried stream; what the publisher was late is in no percentile.",
)
NOT_MEASURED = (
    "Networks, TLS, replicated streams, several instances or workers, and other machines.",
    "Failover and restarts: [guarantees](guarantees.md) says what holds, `just chaos` tries it.",
    "Retries, dead letters, parked keys, MessagePack, and `def` handlers in threads.",
    "Days: each run lasts seconds, on a stream that was just filled.",
)


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cpu: str
    cores: int
    system: str
    python: str
    packages: dict[str, str]
    nats_server: str
    go_client: str
    natsio: str
    """With its Python; empty where it is missing."""
    load: float
    """Average over the last minute before the start; above a half, something else ran as well."""
    commit: str


def look() -> Machine:
    client, other = go_client(), os.environ.get(VARIABLE)
    return Machine(
        cpu=cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: found for name in PACKAGES if (found := installed(name))},
        nats_server=said(binary(), "--version").removeprefix("nats-server: "),
        go_client=said(client, "--version") if client else "",
        natsio=said(other, "-c", NATSIO) if other else "",
        load=round(os.getloadavg()[0], 2),
        commit=said("git", "describe", "--always", "--dirty"),
    )


def cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
