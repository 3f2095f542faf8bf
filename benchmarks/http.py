"""The HTTP edge beside Starlette answering by itself: requests a second by `wrk`, delays, CPU of the server for each, and idle connections.

    uv run python -m benchmarks.http [--seconds 10] [--rounds 3]    # the same as `just bench http`

Starlette and the edge run on uvicorn with httptools and uvloop, one process each; the body is 150 bytes of JSON, decoded to a
Struct and answered with one. CPU is what is compared on a machine that is shared.
"""

from __future__ import annotations

import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from benchmarks.arena import Arena
from benchmarks.contender import Contender, Skipped, environment
from benchmarks.meter import Measured, used_by
from tests.support.port import free_port

CONNECTIONS = (64, 1000)
IDLE, SPARE = 5000, 500
"""Connections that are kept open without a request, and files that are left for everything else."""
BASE = "Starlette by itself"
STARLETTE = """
import msgspec, sys, uvicorn
from msgspec import Struct
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

class Ask(Struct):
    id: str
    customer: str
    cents: int
    note: str = ""

decode, encode = msgspec.json.Decoder(Ask).decode, msgspec.json.encode

async def ask(request):
    given = decode(await request.body())
    return Response(encode(Ask(given.id, given.customer, given.cents + 1)), media_type="application/json")

app = Starlette(routes=[Route("/ask/{name}", ask, methods=["POST"])])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, timeout_keep_alive=60)
"""
FUNCTIONS = """
from msgspec import Struct
from runner import reply, route

class Ask(Struct):
    id: str
    customer: str
    cents: int
    note: str = ""

@route("POST", "/ask/{name}")
async def ask(given: Ask, name: str) -> Ask:
    return Ask(given.id, given.customer, given.cents + 1)

@reply("asked.{name}")
async def asked(given: Ask, name: str) -> Ask:
    return Ask(given.id, given.customer, given.cents + 1)
"""
PROJECT = """
[tool.jetrunner]
name = "bench"
http = "127.0.0.1:{port}"
log_level = "{level}"

[[tool.jetrunner.routes]]
path = "/hop/{{name}}"
request = "asked.{{name}}"
"""
BODY = '{"id":"o-1234567890","customer":"ada@example.com","cents":123456,"note":"' + "x" * 70 + '"}'
SCRIPT = f"""
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{BODY}'
done = function(summary, latency, requests)
  io.write(string.format("found %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99)))
end
"""


class Served(Struct, frozen=True):
    """A server that runs for as long as the section lasts."""

    port: int
    pid: int


class Idle(Struct, frozen=True, forbid_unknown_fields=True):
    """What a server keeps in memory for connections that ask nothing."""

    name: str
    connections: int
    before: float
    memory: float
    """Megabytes: after some requests, and with so many idle connections besides."""


def contenders(arena: Arena) -> list[Contender | Skipped]:
    """The servers run until the arena is closed."""
    if shutil.which("wrk") is None:
        return [Skipped("jetrunner, HTTP", "`wrk` is missing: install it with your system's packages")]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # of the servers and of wrk, too
    folder, nats = Path(arena.server.store, "http"), arena.server.url
    folder.mkdir()
    script = folder / "post.lua"
    script.write_text(SCRIPT)
    plain = arena.keep(starlette(folder))
    quiet = arena.keep(edge(folder / "bare", nats, "warning", {"OTEL_SDK_DISABLED": "true"}))
    told = arena.keep(
        edge(folder / "full", nats, "info", {"OTEL_EXPORTER_OTLP_ENDPOINT": arena.sink.endpoint})
    )
    behind = arena.keep(answering(folder / "bare", nats))
    arena.own += [each.pid for each in (plain, quiet, told, behind)]
    arena.served = {BASE: plain, "jetrunner, log and trace": told}
    ways = (
        (BASE, plain, "/ask/ada"),
        ("jetrunner, @route, no log, no trace", quiet, "/ask/ada"),
        ("jetrunner, @route, log and trace", told, "/ask/ada"),
        ("jetrunner, hop to @reply, no log, no trace", quiet, "/hop/ada"),
        ("jetrunner, hop to @reply, log and trace", told, "/hop/ada"),
    )
    return [
        contender(f"{name}, {count:,} connections", served, path, script, arena.seconds / 2, count)
        for count in (CONNECTIONS[:1] if arena.quick else CONNECTIONS)
        for name, served, path in ways
    ]


def contender(
    name: str, served: Served, path: str, script: Path, seconds: float, connections: int
) -> Contender:
    def run(_: str) -> Measured:
        wrk(served, path, script, seconds / 5, connections)  # what is made at the first request is made
        before = used_by(served.pid)
        requests, us, p50, p99 = wrk(served, path, script, seconds, connections)
        used = (used_by(served.pid) - before) / requests * 1e6
        return Measured(
            requests / us * 1e6, used, memory(served.pid, "VmRSS"), None, p50 / 1000, p99 / 1000, requests
        )

    return Contender(name=name, messages=1, run=run, at=connections, base=not name.startswith("jetrunner"))


def wrk(
    served: Served, path: str, script: Path, seconds: float, connections: int
) -> tuple[int, int, int, int]:
    """Requests that were answered, and the microseconds of the run, of the half and of 99 of 100 of them."""
    whole = max(1, round(seconds))  # it takes no other
    url = f"http://127.0.0.1:{served.port}{path}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "30s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"^found (\d+) (\d+) (\d+) (\d+)$", done.stdout, re.MULTILINE)
    if found is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"wrk said: {done.stdout}{done.stderr}")
    requests, us, p50, p99 = map(int, found.groups())
    return requests, us, p50, p99


def idle(arena: Arena) -> list[Idle]:
    """What each server keeps for connections that have asked once, and stay."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE
    return [held(name, served, min(IDLE, most)) for name, served in arena.served.items()]


def held(name: str, served: Served, count: int) -> Idle:
    before = memory(served.pid, "VmRSS")
    request = (
        f"POST /ask/ada HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"
    ).encode()
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=30))
            client.sendall(request)
            if not client.recv(65_536).startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{name} refuses a connection of {count}")
        return Idle(name, count, before, memory(served.pid, "VmRSS"))


def memory(pid: int, what: str) -> float:
    """Megabytes of a process; 0.0 where there is no /proc."""
    try:
        found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


# -- the servers ------------------------------------------------------------------------------------------


@contextmanager
def running(command: Sequence[str], folder: Path, env: dict[str, str], port: int) -> Iterator[Served]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment(env), stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while not answers(port):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError((folder / "log").read_text())
            time.sleep(0.1)
        yield Served(port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise RuntimeError(f"{folder}: it does not end") from None


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/nothing", timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def starlette(folder: Path) -> Iterator[Served]:
    here = folder / "starlette"
    here.mkdir()
    (here / "app.py").write_text(STARLETTE)
    port = free_port()
    with running(["app.py", str(port)], here, {}, port) as served:
        yield served


@contextmanager
def edge(folder: Path, nats: str, level: str, env: dict[str, str]) -> Iterator[Served]:
    (folder / "functions").mkdir(parents=True)
    (folder / "functions" / "__init__.py").touch()
    (folder / "functions" / "asks.py").write_text(FUNCTIONS)
    port = free_port()
    (folder / "pyproject.toml").write_text(PROJECT.format(port=port, level=level))
    with running(["-m", "runner", "gateway"], folder, {"NATS_URL": nats, **env}, port) as served:
        yield served


@contextmanager
def answering(folder: Path, nats: str) -> Iterator[Served]:
    """The function behind the hop; it has functions with `@route`, too, so it listens once it runs."""
    port = free_port()
    env = {"NATS_URL": nats, "OTEL_SDK_DISABLED": "true", "JETRUNNER_HTTP": f"127.0.0.1:{port}"}
    with running(["-m", "runner", "run"], folder, env, port) as served:
        yield served


if __name__ == "__main__":
    sys.exit(subprocess.call([sys.executable, "-m", "benchmarks", "http", *sys.argv[1:]]))
