"""Measures Jetrunner beside other clients, or shows where its own time goes; the method is in README.md."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks import round, sections  # noqa: A004  a round of runs
from benchmarks.arena import Arena, opened
from benchmarks.contender import Contender, Skipped
from benchmarks.elsewhere import Elsewhere
from benchmarks.machine import Machine, look
from benchmarks.report import RESULTS, Report, text, write
from benchmarks.workload import SIZE

MESSAGES, ROUNDS, SECONDS = 200_000, 3, 10.0
QUICK_MESSAGES, QUICK_ROUNDS, QUICK_SECONDS = 1000, 1, 0.5


def main() -> None:
    options = arguments()
    machine = look()
    for name in chosen(options.sections):
        # Each on a server of its own: the streams of one section are not in another's way.
        with opened(options.messages, options.rounds, options.seconds, quick=options.quick) as arena:
            if options.profile is not None:
                profile(name, arena, options.profile)
                return
            report = measure(name, arena, machine)
        print(text(report, title(name)), flush=True)
        print(f"written to {write(report, options.output)}", file=sys.stderr)


def chosen(names: list[str]) -> list[str]:
    """The sections that these names stand for, each once, in their own order."""
    wanted = {one for name in names for one in sections.GROUPS.get(name, (name,))}
    return [name for name in sections.NAMES if name in wanted]


def title(name: str) -> str:
    return sections.LATENCIES[name].TITLE if name in sections.LATENCIES else sections.SECTIONS[name].title


def measure(name: str, arena: Arena, machine: Machine) -> Report:
    report = Report(
        section=name,
        date=time.strftime("%Y-%m-%d"),
        machine=machine,
        elsewhere=0.0,
        storage="file storage",
        message_bytes=SIZE,
        messages=arena.messages,
        rounds=arena.rounds,
    )
    if name in sections.LATENCIES:
        elsewhere = Elsewhere(arena.server)
        report.latency = sections.LATENCIES[name].measure(arena, arena.seconds)
    else:
        print(f"{name}: filling streams", file=sys.stderr)
        contenders, report.skipped = found(name, arena)
        for one in report.skipped:
            print(f"SKIPPED  {one.name}: {one.reason}", file=sys.stderr)
        elsewhere = Elsewhere(arena.server, arena.own)
        report.results = round.interleave(name, contenders, arena)
        report.idle = sections.SECTIONS[name].idle(arena)
    report.elsewhere = elsewhere.cores()
    return report


def found(name: str, arena: Arena) -> tuple[list[Contender], list[Skipped]]:
    """The contenders of a section, and those that are missing here."""
    everyone = sections.SECTIONS[name].contenders(arena)
    return (
        [one for one in everyone if isinstance(one, Contender)],
        [one for one in everyone if isinstance(one, Skipped)],
    )


def profile(name: str, arena: Arena, part: str) -> None:
    """Show where the time of our own hot path goes; the profiler itself costs several times as much."""
    contenders, _ = found(name, arena)
    ours = [one for one in contenders if one.name.startswith("jetrunner") and part in one.name]
    if not ours:
        raise SystemExit(f"error: no contender of ours in {name} is named like {part!r}")
    print(f"profile of {ours[0].name}", file=sys.stderr)
    os.environ["BENCH_PROFILE"] = "yes"
    ours[0].run("profile")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", default=["all"], metavar="SECTION", help=", ".join(NAMES))
    parser.add_argument("--messages", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each run that takes a time")
    parser.add_argument("--quick", action="store_true", help="small counts, one round, for trying out")
    parser.add_argument(
        "--output", type=Path, help="folder for the JSON; benchmarks/results where all is measured in full"
    )
    parser.add_argument(
        "--profile", metavar="NAME", help="profile the contender of ours with this in its name, instead"
    )
    options = parser.parse_args()
    if unknown := set(options.sections) - set(NAMES):
        parser.error(f"no section {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    full = (MESSAGES, ROUNDS, SECONDS)
    asked = (QUICK_MESSAGES, QUICK_ROUNDS, QUICK_SECONDS) if options.quick else full
    options.messages = options.messages or asked[0]
    options.rounds = options.rounds or asked[1]
    options.seconds = options.seconds or asked[2]
    if options.messages < QUICK_MESSAGES or options.rounds < 1 or options.seconds <= 0:
        parser.error(f"at least {QUICK_MESSAGES:,} messages, one round and some seconds")
    if options.profile is not None and (
        len(chosen(options.sections)) != 1 or chosen(options.sections)[0] in sections.LATENCIES
    ):
        parser.error("a profile is of one section, and not of latency")
    if options.output is None:
        less = any(
            one < other
            for one, other in zip((options.messages, options.rounds, options.seconds), full, strict=True)
        )
        options.output = RESULTS / "quick" if less else RESULTS
    return options


NAMES = (*sections.NAMES, *sections.GROUPS)

if __name__ == "__main__":
    main()
