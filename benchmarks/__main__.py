"""Measures Jetrunner beside other clients, or shows where its own time goes; the method is in README.md."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import msgspec

from benchmarks import contender, latency, ordered, outputs, throughput, tracing
from benchmarks.machine import CAVEATS, look
from benchmarks.report import Report, compare, text
from benchmarks.round import interleave
from benchmarks.server import Server, running
from benchmarks.workload import SIZE

SECTIONS = ("throughput", "outputs", "tracing", "ordered", "latency")
FULL_MESSAGES, FULL_ROUNDS, FULL_SECONDS = 200_000, 5, 10.0
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    options = arguments()
    with running() as server:
        server.stream("BENCH", "orders.*")
        if options.section not in {"latency", "ordered"} or options.profile:
            print(f"storing {options.messages:,} messages", file=sys.stderr)
            server.fill("BENCH", "orders", options.messages)
        if options.profile:
            profile(server, options)
        else:
            measure(server, options)


def measure(server: Server, options: argparse.Namespace) -> None:
    messages, rounds = options.messages, options.rounds
    chosen = SECTIONS if options.section == "all" else (options.section,)
    report = Report(
        date=time.strftime("%Y-%m-%d"),
        machine=look(server.store),
        storage="file storage",
        message_bytes=SIZE,
        messages=messages,
        rounds=rounds,
        latency_rate=latency.RATE,
        latency_seconds=options.seconds,
        caveats=CAVEATS,
        skipped=[],
    )
    if report.machine.load > report.machine.cores / 4:
        print(f"WARNING  something else runs here: load {report.machine.load}", file=sys.stderr)
    if "throughput" in chosen:
        found, report.skipped = throughput.contenders(server, messages)
        report.throughput = interleave("throughput", found, server, rounds)
    if "outputs" in chosen:
        report.outputs = interleave("outputs", outputs.contenders(messages), server, rounds)
    if "tracing" in chosen:
        with tracing.contenders(messages) as traced:
            report.tracing = interleave("tracing", traced, server, rounds)
    if "ordered" in chosen:
        report.ordered = interleave("ordered", ordered.contenders(server, messages), server, rounds)
    if "latency" in chosen:
        report.latency = latency.measure(server, options.seconds, rounds)
    report.comparisons = compare(report)
    print(text(report))
    path = options.output or RESULTS / name(report, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    print(f"written to {path}", file=sys.stderr)


def name(report: Report, options: argparse.Namespace) -> str:
    """A file that holds less than the full measurement says so in its name."""
    parts = [report.date, report.machine.slug]
    if options.section != "all":
        parts.append(options.section)
    if options.messages < FULL_MESSAGES or options.rounds < FULL_ROUNDS or options.seconds < FULL_SECONDS:
        parts.append("quick")
    return "-".join(parts) + ".json"


def profile(server: Server, options: argparse.Namespace) -> None:
    """Show where the time of our own hot path goes; the profiler itself costs several times as much."""
    kind = "output" if options.section == "outputs" else "noop"
    env = contender.environment()
    if options.section == "tracing":
        del env[
            "OTEL_SDK_DISABLED"
        ]  # to a collector that is not there, or is: all but the export is the same
    if kind == "output":
        server.stream("OUT", "out.profile.*")
    given = (kind, server.url, "BENCH", "orders.*", "profile", options.messages, options.concurrency)
    with contender.spawned("ours", *given, options.sort, env=env) as process:
        output, _ = process.communicate(timeout=contender.PATIENCE_SECONDS)
    print(output)
    sys.exit(process.returncode)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("section", nargs="?", default="all", choices=[*SECTIONS, "all"])
    parser.add_argument("--messages", type=int, default=FULL_MESSAGES)
    parser.add_argument("--rounds", type=int, default=FULL_ROUNDS)
    parser.add_argument("--seconds", type=float, default=FULL_SECONDS, help="of each latency run")
    parser.add_argument("--output", type=Path, help="where the JSON goes instead of benchmarks/results/")
    parser.add_argument("--profile", action="store_true", help="profile our own hot path instead (cProfile)")
    parser.add_argument("--concurrency", type=int, default=throughput.DEFAULT, help="for --profile")
    parser.add_argument("--sort", default="tottime", choices=["tottime", "cumtime"], help="for --profile")
    options = parser.parse_args()
    if options.messages < 1000 or options.rounds < 1 or options.seconds <= 0:
        parser.error("at least 1,000 messages, one round and some seconds")
    if options.profile and options.section == "latency":
        parser.error("latency has no profile")
    return options


if __name__ == "__main__":
    main()
