"""The second part of the demo: flights are compared by requests to three instances, of which one is killed meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from functions._dev import Dev

FLIGHTS = 1_000
WITHIN = 60.0  # seconds


class Outcome(NamedTuple):
    """What became of the flights that were compared."""

    compared: int
    again: int
    """Attempts that had to be made again."""
    at_kill: int
    """How many had been compared when an instance was killed."""


def failover(root: Path, environment: dict[str, str], dev: Dev, publish: Callable[[int], None]) -> Outcome:
    """`runner dev` is the first instance, and compares; `publish` sends so many flights."""
    environment = {**environment, "NATS_URL": (root / ".jetrunner" / "nats-url").read_text().strip()}
    with ExitStack() as stack:
        killed, _ = [stack.enter_context(instance(root, environment, "figures")) for _ in range(2)]
        sending = threading.Thread(target=publish, args=(FLIGHTS,))
        sending.start()
        wait(dev, FLIGHTS // 10)
        at_kill = compared(dev)
        killed.kill()
        sending.join()
        wait(dev, FLIGHTS)
    counts = dev.tally().by_function["compare"]
    return Outcome(counts["ack"], counts["retry"] + counts["dead"], at_kill)


def missing(outcome: Outcome) -> list[str]:
    """Sentences about what is not as it must be; none when all is well."""
    checks = [
        (outcome.compared == FLIGHTS, f"{outcome.compared:,} flights were compared instead of {FLIGHTS:,}"),
        (not outcome.again, f"{outcome.again:,} comparisons failed, though two instances were left"),
        (outcome.at_kill < FLIGHTS, "the instance was killed after the last comparison"),
    ]
    return [sentence for holds, sentence in checks if not holds]


@contextmanager
def instance(root: Path, environment: dict[str, str], *functions: str) -> Iterator[subprocess.Popen[str]]:
    """A `runner run` of these functions alone."""
    only = [word for each in functions for word in ("--only", each)]
    words = [sys.executable, "-m", "runner", "run", *only, "--project", str(root)]
    with subprocess.Popen(words, cwd=root, env=environment, text=True, stderr=subprocess.PIPE) as process:
        reading = threading.Thread(target=lambda: list(process.stderr or ()))
        try:
            if not any("ready: " in line for line in process.stderr or ()):
                raise RuntimeError(f"an instance of {functions} did not start")
            reading.start()
            yield process
        finally:
            process.terminate()
            process.wait(30)
            if reading.ident is not None:
                reading.join()


def compared(dev: Dev) -> int:
    """Flights that were compared so far."""
    return dev.tally().by_function.get("compare", Counter())["ack"]


def wait(dev: Dev, count: int) -> None:
    """Return once so many were compared, or nothing comes of it."""
    until = time.monotonic() + WITHIN
    while compared(dev) < count and dev.running and time.monotonic() < until:
        time.sleep(0.01)
