"""`just demo`: real flights through these functions, on a nats-server of its own, and what became of each.

Runs in a copy of the project, so that every run starts with empty streams. Exit 1 when anything is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from functions import _report as report
from functions._dev import Dev, Tally
from functions._endpoint import Endpoint, endpoint
from functions._failover import failover
from functions._failover import missing as unanswered
from functions._overhttp import missing as refused
from functions._overhttp import over_http
from functions.alert import LATE
from runner.telemetry.receiver import Receiver
from runner.telemetry.span import Span

ROOT = Path(__file__).parents[1]
DATA = Path("functions") / "_data"
READERS = ("alert", "audit", "track")  # of each flight; `forward` reads the alerts
FUNCTIONS = (*READERS, "forward")  # those of day.py wait for a day to report on
STALLED = 60.0  # seconds without any progress
FOREIGN = ("JETRUNNER_", "NATS_", "OTEL_")


class Expected(NamedTuple):
    """What must come out, computed from the data alone."""

    messages: int
    alerts: int
    dead: Counter[str]

    @property
    def handled(self) -> int:
        """Messages that end, counted once for each function that reads them."""
        return self.messages * len(READERS) + self.alerts


def expected() -> Expected:
    """Every real flight passes; of the made-up ones, five are rejected and two cannot be read by anyone."""
    flights = [json.loads(line) for line in (ROOT / DATA / "flights.jsonl").read_text().splitlines()]
    broken = [json.loads(line) for line in (ROOT / DATA / "broken.jsonl").read_text().splitlines()]
    readable = [one for one in broken if isinstance(one["delay"], int) and "destination" in one]
    alerts = sum(one["delay"] >= LATE for one in (*flights, *readable))
    unreadable = (len(broken) - len(readable)) * len(READERS)
    dead = Counter({"rejected": len(readable), "undecodable": unreadable})
    return Expected(len(flights) + len(broken), alerts, dead)


@contextmanager
def project() -> Iterator[Path]:
    """Copy this project into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="jetrunner-demo-") as folder:
        root = Path(folder)
        for part in ("functions", "streams"):
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", root)
        yield root


def command(root: Path, environment: dict[str, str], *arguments: str) -> Any:
    """Run `runner <arguments> --output json` and return what it printed."""
    words = [sys.executable, "-m", "runner", *arguments, "--project", str(root), "--output", "json"]
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"runner {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def publish(root: Path, environment: dict[str, str]) -> None:
    """Publish the whole sample: one message a line, to the subject that its fields fill in."""
    for file in ("flights.jsonl", "broken.jsonl"):
        command(
            root, environment, "publish", "flights.{origin}", "--lines", "--file", str(root / DATA / file)
        )


def ask(root: Path, environment: dict[str, str], count: int) -> None:
    """Publish the first flights once more, to be compared with what is usual at their airports."""
    few = root / "few.jsonl"
    few.write_text("\n".join((root / DATA / "flights.jsonl").read_text().splitlines()[:count]) + "\n")
    command(root, environment, "publish", "comparisons.{origin}", "--lines", "--file", str(few))


def watch(dev: Dev, goal: Expected, publishing: Future[None]) -> Tally:
    """Show progress until every message has ended, or nothing moves any more."""
    moved, last = time.monotonic(), -1
    with report.progress(goal.handled) as show:
        while True:
            tally = dev.tally()
            show(tally.handled, tally.retried, tally.dead)
            if tally.handled != last:
                moved, last = time.monotonic(), tally.handled
            stalled = not dev.running or time.monotonic() - moved > STALLED
            if stalled or (publishing.done() and (tally.handled >= goal.handled or publishing.exception())):
                return tally
            time.sleep(0.1)


def settled(root: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    """Ask for the status until nothing is pending; the last answer, whatever it is."""
    for _ in range(10):
        every: list[dict[str, Any]] = command(root, environment, "status")["functions"]
        functions = [each for each in every if each["function"] in FUNCTIONS]
        if all(each["pending"] == each["in_flight"] == 0 for each in functions):
            break
        time.sleep(0.2)
    return functions


def telling(spans: list[Span]) -> list[Span]:
    """The trace with the most to see: a late flight whose alert had to be posted more than once."""
    traces: dict[str, list[Span]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)

    def interest(trace: list[Span]) -> tuple[bool, bool, int]:
        services = {span.service for span in trace}
        return services >= {"alert", "forward"}, any(span.failed for span in trace), -len(trace)

    return max(traces.values(), key=interest, default=[])


def missing(
    goal: Expected,
    tally: Tally,
    letters: list[dict[str, Any]],
    functions: list[dict[str, Any]],
    server: Endpoint,
) -> list[str]:
    """Sentences about what is not as it must be; none when all is well."""
    reasons = Counter(letter["reason"] for letter in letters)
    waiting = {each["function"]: each["pending"] + each["in_flight"] for each in functions}
    checks = [
        (tally.handled == goal.handled, f"{tally.handled:,} messages ended instead of {goal.handled:,}"),
        (reasons == goal.dead, f"dead letters are {dict(reasons)} instead of {dict(goal.dead)}"),
        (
            len(server.taken) == goal.alerts,
            f"{len(server.taken):,} alerts arrived instead of {goal.alerts:,}",
        ),
        (server.refused == 0 or tally.retried > 0, "the endpoint failed, and nothing was retried"),
        (set(waiting) == {*READERS, "forward"}, f"status knows of {', '.join(waiting) or 'no function'}"),
        (not any(waiting.values()), f"not settled: {waiting}"),
    ]
    return [sentence for holds, sentence in checks if not holds]


def main() -> int:
    """Run it all; the exit code."""
    begun = time.monotonic()
    goal = expected()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    with Receiver(capacity=200_000) as receiver, endpoint() as server, project() as root:
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "ALERTS_URL": server.url}
        report.say(
            "runner dev: a nats-server of its own, the streams of streams/, the functions of functions/"
        )
        with Dev(root, environment) as dev:
            dev.ready(within=60)
            report.say(f"runner publish: {goal.messages:,} flight records to flights.{{origin}}")
            with ThreadPoolExecutor(1) as thread:
                publishing = thread.submit(publish, root, environment)
                tally = watch(dev, goal, publishing)
            publishing.result()
            functions = settled(root, environment)
            report.say("three instances answer requests for an airport's figures, and one of them is killed")
            outcome = failover(root, environment, dev, partial(ask, root, environment))
            report.say("the same figures over HTTP, through an Ingress, and an instance is killed again")
            answers = over_http(root, environment)
            letters = command(root, environment, "deadletter", "list", "--limit", "0")
            trace = telling(receiver.spans())
            if not {span.service for span in trace} >= {
                "alert",
                "forward",
            }:  # busy: too few flights were sampled
                late = '{"date":"2001/01/01 01:10","delay":95,"distance":2399,"origin":"HNL","destination":"SFO"}'
                command(root, environment, "publish", "flights.HNL", late)
                trace = telling(receiver.wait(lambda spans: len({s.service for s in telling(spans)}) > 2, 20))
        code = dev.code
        faults = [
            *missing(goal, tally, letters, functions, server),
            *unanswered(outcome),
            *refused(answers),
        ]
        if code != 0:
            faults.append(f"runner dev ended with exit {code}:\n{dev.said}")
        report.summary(goal.messages, tally, functions, letters, trace, server, begun)
        report.requests(outcome)
        report.answers(answers)
    for fault in faults:
        report.say(f"missing: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
