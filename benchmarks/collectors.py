"""2,000 traced messages a second, and a collector that does not do its work: what becomes of messages, memory, spans and the end.

    uv run python -m benchmarks.collectors [--seconds 60] [--rate 2000] [--only hangs] [--output FOLDER]

One process, one function that does nothing, `OTEL_TRACES_SAMPLER=always_on`, nats-server beside it. The wait is the time from a
message's publish, by the server's clock, until its handler starts; memory is the process's resident set, looked at each second. A full run
writes benchmarks/results/collectors.json, for docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import nats

from benchmarks.collected import Collected, table
from benchmarks.elsewhere import Elsewhere
from benchmarks.machine import look
from benchmarks.report import RESULTS, Report, write
from tests.support.eventually import eventually
from tests.support.port import free_port
from tests.support.project import Project
from tests.support.server import NatsServer

SHOP = """
    import json
    import time

    from runner import Context, consume

    waits: list[float] = []

    @consume("orders.*")
    async def charge(body: bytes, ctx: Context) -> None:
        waits.append(time.time() - ctx.timestamp.timestamp())
        if body == b"last":
            waits.sort()
            found = {name: waits[int(len(waits) * share)] for name, share in {"p50": 0.5, "p99": 0.99}.items()}
            with open("waits.json.new", "w") as file:
                json.dump({"count": len(waits), "max": waits[-1], **found}, file)
            import os
            os.rename("waits.json.new", "waits.json")
"""
CHUNK_SECONDS = 0.01
BODY = b"x" * 200
SECONDS, RATE = 60.0, 2_000


class Answers(ThreadingHTTPServer):
    """A collector that answers with `status`, after a while."""

    daemon_threads = True
    status = 200
    seconds = 0.0
    taken = 0


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answers

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.seconds)
        self.server.taken += self.server.status == 200
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def answering(port: int, status: int = 200, seconds: float = 0.0) -> Iterator[None]:
    with Answers(("127.0.0.1", port), _Answer) as server:
        server.status, server.seconds = status, seconds
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield
        server.shutdown()


@contextmanager
def hanging(port: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port), backlog=1_000):
        yield


@contextmanager
def nobody(_: int) -> Iterator[None]:
    yield


@contextmanager
def coming_back(port: int, after: float) -> Iterator[None]:
    """Nobody at first."""
    stop = threading.Event()

    def come() -> None:
        if not stop.wait(after):
            with answering(port):
                stop.wait()

    thread = threading.Thread(target=come)
    thread.start()
    yield
    stop.set()
    thread.join()


def kinds(seconds: float) -> dict[str, Callable[[int], Any]]:
    return {
        "takes all": answering,
        "refuses": nobody,
        "hangs": hanging,
        "is slow (2 s an export)": lambda port: answering(port, seconds=2.0),
        "answers 503": lambda port: answering(port, status=503),
        "comes back half way": lambda port: coming_back(port, seconds / 2),
    }


async def publish(url: str, rate: int, seconds: float) -> float:
    """Seconds that it took; each chunk at its time."""
    client = await nats.connect(url)
    began, sent, total = time.monotonic(), 0, int(rate * seconds)
    while sent < total:
        until = min(total, int((time.monotonic() - began) * rate) + 1)
        for _ in range(sent, until):
            await client.publish("orders.a", BODY)
        sent = until
        await asyncio.sleep(CHUNK_SECONDS)
    took = time.monotonic() - began
    await client.publish("orders.a", b"last")
    await client.close()
    return took


def resident(pid: int) -> float:
    """MB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1_000 if found else 0.0


def metrics(port: int) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/metrics").text


async def measure(name: str, collector: Callable[[int], Any], rate: int, seconds: float) -> Collected:
    with tempfile.TemporaryDirectory(prefix="jetrunner-bench-") as folder:
        server = NatsServer(Path(folder) / "nats")
        server.start()
        otlp, health = free_port(), free_port()
        project = Project(Path(folder) / "shop", functions={"shop": SHOP}, nats=server.url)
        project.stream("orders", 'name = "ORDERS"\nsubjects = ["orders.*"]\n')
        project.environment |= {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{otlp}",
        }
        try:
            await project.applied()
            with collector(otlp):
                process = project.start("run", "--health", f"127.0.0.1:{health}")
                await process.seen("ready: ")
                memory = [resident(process.pid)]
                sending = asyncio.create_task(publish(server.url, rate, seconds))
                while not sending.done():
                    await asyncio.sleep(1)
                    memory.append(resident(process.pid))
                file = project.root / "waits.json"
                await eventually(file.exists, within=60)
                text = await asyncio.to_thread(metrics, health)
                lost = re.search(r"^jetrunner_spans_lost_total (\d+)", text, re.MULTILINE)
                began = time.monotonic()
                process.terminate()
                code = await process.ended()
                ended = time.monotonic() - began
            waits = json.loads(file.read_text())
            return Collected(
                collector=name,
                rate=round((waits["count"] - 1) / await sending),
                p50=round(waits["p50"] * 1e3, 1),
                p99=round(waits["p99"] * 1e3, 1),
                max=round(waits["max"] * 1e3, 1),
                memory=(round(memory[0]), round(max(memory))),
                spans=waits["count"],
                lost=int(lost[1]) if lost else None,
                shutdown=round(ended, 2),
                exit=code,
                told=[line.partition("telemetry: ")[2] for line in process.stderr if " telemetry: " in line],
            )
        finally:
            project.close()
            server.kill()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--only", default="")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    full = (given.seconds, given.rate, given.only) == (SECONDS, RATE, "")
    report = Report(
        section="collectors",
        date=time.strftime("%Y-%m-%d"),
        machine=look(),
        elsewhere=0.0,
        storage="file storage",
        message_bytes=len(BODY),
        messages=int(given.rate * given.seconds),
        rounds=1,
    )
    elsewhere = Elsewhere(None)
    for name, collector in kinds(given.seconds).items():
        if given.only in name:
            one = asyncio.run(measure(name, collector, given.rate, given.seconds))
            report.collectors.append(one)
            print("".join(table([one])).splitlines()[-1], *one.told, sep="\n    ", flush=True)
    report.elsewhere = elsewhere.cores()
    print(f"written to {write(report, given.output or (RESULTS if full else RESULTS / 'quick'))}")


if __name__ == "__main__":
    main()
