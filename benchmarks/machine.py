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
    "Clients, publisher and nats-server share the cores of one machine, and talk over the loopback. There is no network, no TLS, one replica, and one process of Jetrunner.",
    "A client that uses less CPU leaves more to the server. So a rate belongs to client and server together; CPU a message belongs to the client alone.",
    "nats-server writes to files, and syncs them every two minutes by default, so messages would not survive a power cut.",
    "All messages are in the stream before a client starts: the client works off a backlog.",
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
    (
        "Strict order: nats-server searches the stream for each consumer's next message. A client that only reads and acknowledges costs "
        "the server 4.5 µs a message over one consumer, 8.6 µs over 8, 12 µs over 32, and 250 to 360 µs over 512. Fewer shards are faster."
    ),
    "One hot key: each message starts once the settlement of the one before is on record, which takes a round trip to the server.",
    "When the clock stops, a traced run may have a few thousand spans left to send. Their CPU is not counted.",
    "Requests: in Go both sides use `encoding/json` and all cores; a process of Python uses one. Delays are those of every request, the first tenth included.",
    "HTTP: `wrk` shares the cores; with 1,000 connections, most of the delay is waiting for the one server process.",
    "Latency: the rate is far below the limit. Delays of the publisher itself are in no percentile.",
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
