"""The third part of the demo: the same figures over HTTP, through an Ingress, while one of three instances is killed."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from functions._failover import instance

REQUESTS = 2_000
CLIENTS = 8
WITHIN = 60.0  # seconds
INGRESS = Path("functions") / "_data" / "ingress.yaml"
HOST, PATH = "flights.example.com", "/figures/HNL"


class Answers(NamedTuple):
    """What the clients got."""

    statuses: Counter[str]
    """By status, or by what went wrong with the connection."""
    at_kill: int
    """How many had been answered when the instance was killed."""
    slowest: float
    """Seconds."""


class Clients:
    """Ask over connections that are kept, as fast as they are answered, until they have asked enough."""

    def __init__(self, address: str) -> None:
        self.statuses: Counter[str] = Counter()
        self.slowest = 0.0
        self._address = address
        self._left = REQUESTS
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]

    def run(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def wait(self, count: int) -> None:
        """Return once so many were answered, or nothing comes of it."""
        until = time.monotonic() + WITHIN
        while self.statuses.total() < count and time.monotonic() < until:
            time.sleep(0.005)

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        while self._take():
            began = time.monotonic()
            try:
                connection.request("GET", PATH, headers={"Host": HOST})
                answer = connection.getresponse()
                body = answer.read()
                got = str(answer.status) if b'"HNL"' in body else f"{answer.status}: {body!r}"
            except (OSError, http.client.HTTPException) as error:
                got = type(error).__name__
                connection.close()
            with self._lock:
                self.statuses[got] += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
        connection.close()


def over_http(root: Path, environment: dict[str, str]) -> Answers:
    """`runner dev` is the first instance; the gateway is a process of its own."""
    environment = {**environment, "NATS_URL": (root / ".jetrunner" / "nats-url").read_text().strip()}
    with ExitStack() as stack:
        names = ("airports", "figures")
        killed, _ = [stack.enter_context(instance(root, environment, *names)) for _ in range(2)]
        clients = Clients(stack.enter_context(gateway(root, environment)))
        clients.run()
        clients.wait(REQUESTS // 10)
        at_kill = clients.statuses.total()
        killed.kill()
        clients.wait(REQUESTS)
    return Answers(clients.statuses, at_kill, clients.slowest)


def missing(answers: Answers) -> list[str]:
    """Sentences about what is not as it must be; none when all is well."""
    checks = [
        (
            answers.statuses == Counter({"200": REQUESTS}),
            f"answers over HTTP are {dict(answers.statuses)} instead of {REQUESTS:,} times 200",
        ),
        (answers.at_kill < REQUESTS, "the instance was killed after the last request over HTTP"),
    ]
    return [sentence for holds, sentence in checks if not holds]


@contextmanager
def gateway(root: Path, environment: dict[str, str]) -> Iterator[str]:
    """A `runner gateway` with the Ingress; its address."""
    words = [
        sys.executable, "-m", "runner", "gateway", "--listen", "127.0.0.1:0", "--routes", str(root / INGRESS), "--project", str(root),
    ]  # fmt: skip
    with subprocess.Popen(words, cwd=root, env=environment, text=True, stderr=subprocess.PIPE) as process:
        reading = threading.Thread(target=lambda: list(process.stderr or ()))
        address = ""
        try:
            for line in process.stderr or ():
                if "HTTP at http://" in line:
                    address = line.partition("HTTP at http://")[2].split()[0].rstrip(":")
                if "ready: " in line:
                    break
            if not address or process.poll() is not None:
                raise RuntimeError("the gateway did not start")
            reading.start()
            yield address
        finally:
            process.terminate()
            process.wait(30)
            if reading.ident is not None:
                reading.join()
