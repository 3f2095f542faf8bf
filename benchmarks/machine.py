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
from benchmarks.server import binary

PACKAGES = ("nats-py", "uvloop", "msgspec", "faststream", "opentelemetry-sdk")
CAVEATS = (
    "Clients, publisher and nats-server share this machine's cores over the loopback: no network, no TLS, one replica.",
    "A client that uses less CPU leaves more to the server: rates are a pair's, CPU a message is the client's own.",
    "nats-server writes to files and syncs them every two minutes, its default: a power cut is not survived.",
    "All messages wait in the stream when a contender starts: this is catching up, not following.",
    (
        "The clock starts after the first tenth of the messages; Go's tool clocks itself from its first message on, "
        "and its CPU includes its start."
    ),
    "The bare loop and Go's tool do not decode; everyone else decodes JSON into a msgspec.Struct.",
    (
        "The bare loop and nats-py's publishing loops are the least code that works: no timeout, retry or lease. "
        "All Python runs on uvloop."
    ),
    "Handlers do nothing: with handlers that work, the differences shrink.",
    "FastStream gets a tenth of the messages, uses its msgspec serializer, and a task for each message of a fetch.",
    (
        "Default tracing takes up to 100 messages a second that have no traceparent; a sampled one costs more, and the 100 "
        "that a fresh process takes at once fall into the warm-up."
    ),
    "Latency: an unhurried stream; what the publisher was late is in no percentile.",
)


class Machine(msgspec.Struct, frozen=True):
    cpu: str
    cores: int
    system: str
    python: str
    packages: dict[str, str]
    nats_server: str
    go_client: str
    file_system: str
    """Of the folder that nats-server stores its files in."""
    load: float
    """Average over the last minute before the start; above a half, something else ran as well."""
    commit: str

    @property
    def slug(self) -> str:
        """Host kind for a file's name."""
        return f"{re.sub('[^a-z0-9]+', '-', self.cpu.lower()).strip('-')}-{self.cores}-cores"


def look(store: str) -> Machine:
    client = go_client()
    return Machine(
        cpu=cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: found for name in PACKAGES if (found := installed(name))},
        nats_server=said(binary(), "--version").removeprefix("nats-server: "),
        go_client=said(client, "--version") if client else "",
        file_system=file_system(store),
        load=round(os.getloadavg()[0], 2),
        commit=said("git", "describe", "--always", "--dirty"),
    )


def cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def file_system(store: str) -> str:
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    above = [mount for mount in mounts if Path(mount[1]) in (Path(store), *Path(store).parents)]
    return max(above, key=lambda mount: len(mount[1]))[2] if above else "unknown"


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
