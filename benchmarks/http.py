"""The HTTP edge beside Starlette answering by itself: requests a second by `wrk`, and CPU of the server for each.

    uv run python -m benchmarks.http [--seconds 5] [--rounds 3] [--connections 64]

Starlette and the edge run on uvicorn with httptools and uvloop, one process each; the body is 150 bytes of JSON, decoded to a
Struct and answered with one. Rounds are interleaved; told is the median. CPU is what is compared on a machine that is shared.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.port import free_port
from tests.support.server import NatsServer

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
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
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
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"id":"o-1234567890","customer":"ada@example.com","cents":123456,"note":"' .. string.rep("x", 70) .. '"}'
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: install it with your system's packages")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        script = folder / "post.lua"
        script.write_text(SCRIPT)
        nats = NatsServer(folder / "nats")
        nats.start()
        stack.callback(nats.stop)
        own = {"OTEL_SDK_DISABLED": "true"}
        contenders = {
            "Starlette by itself": stack.enter_context(starlette(folder)),
            "@route, no log, no trace": stack.enter_context(edge(folder / "bare", nats.url, "warning", own)),
            "@route, log and trace": stack.enter_context(edge(folder / "full", nats.url, "info", {})),
        }
        paths = dict.fromkeys(contenders, "/ask/ada")
        names = [*contenders, "hop to @reply, no log, no trace", "hop to @reply, log and trace"]
        contenders[names[-2]], contenders[names[-1]] = contenders[names[1]], contenders[names[2]]
        paths[names[-2]] = paths[names[-1]] = "/hop/ada"
        stack.enter_context(answering(folder / "bare", nats.url))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                port, pid = contenders[name]
                found[name].append(
                    measure(port, pid, paths[name], script, options.seconds, options.connections)
                )
    base = statistics.median(cpu for _, cpu in found[names[0]])
    for name in names:
        rate = statistics.median(each for each, _ in found[name])
        cpu = statistics.median(each for _, each in found[name])
        print(f"{name:34} {rate:>9,.0f}/s {cpu:>7.1f} µs CPU  ×{base / cpu:.2f} by CPU")


def measure(
    port: int, pid: int, path: str, script: Path, seconds: int, connections: int
) -> tuple[float, float]:
    before = cpu_of(pid)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}{path}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    used = cpu_of(pid) - before
    total = re.search(r"(\d+) requests in", done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert total is not None
    assert rate is not None
    if "Non-2xx" in done.stdout:
        print(done.stdout)
    return float(rate[1]), used / int(total[1]) * 1e6


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(command: Sequence[str], folder: Path, environment: dict[str, str], port: int) -> Iterator[int]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while port and not answers(port):
            if time.monotonic() > deadline or process.poll() is not None:
                sys.exit((folder / "log").read_text())
            time.sleep(0.1)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            print(f"{folder}: it does not end", file=sys.stderr)
            print("".join((folder / "log").read_text().splitlines(keepends=True)[-20:]), file=sys.stderr)
            process.kill()


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/nothing", timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def starlette(folder: Path) -> Iterator[tuple[int, int]]:
    here = folder / "starlette"
    here.mkdir()
    (here / "app.py").write_text(STARLETTE)
    port = free_port()
    with running(["app.py", str(port)], here, {}, port) as pid:
        yield port, pid


@contextmanager
def edge(folder: Path, nats: str, level: str, environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    (folder / "functions").mkdir(parents=True)
    (folder / "functions" / "__init__.py").touch()
    (folder / "functions" / "asks.py").write_text(FUNCTIONS)
    port = free_port()
    (folder / "pyproject.toml").write_text(PROJECT.format(port=port, level=level))
    with running(["-m", "runner", "gateway"], folder, {"NATS_URL": nats, **environment}, port) as pid:
        yield port, pid


@contextmanager
def answering(folder: Path, nats: str) -> Iterator[None]:
    """The function behind the hop."""
    environment = {
        "NATS_URL": nats,
        "OTEL_SDK_DISABLED": "true",
        "JETRUNNER_HTTP": f"127.0.0.1:{free_port()}",
    }
    with running(["-m", "runner", "run"], folder, environment, 0):
        time.sleep(3)
        yield


if __name__ == "__main__":
    main()
