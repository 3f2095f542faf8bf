"""Writes docs/performance.md and its plots from the committed results: `just bench-report`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import collected, sections
from benchmarks.contender import ROOT
from benchmarks.machine import CAVEATS, NOT_MEASURED
from benchmarks.plot import bars, curves
from benchmarks.report import Report, committed, compare, kept
from benchmarks.round import Result

PAGE = ROOT / "docs" / "performance.md"
PLOTS = PAGE.parent / "performance"
HEAD = """# Performance

<!-- Written by benchmarks/page.py from benchmarks/results: measure with `just bench`, then run `just bench-report`. -->

This page compares the cost of Jetrunner with that of other clients of JetStream, and shows how it grows with load. Figures are medians
of interleaved rounds, with the slowest and the fastest round in brackets. CPU is the time of the client's whole process for one message.
It stands beside the rate because client and server share the cores. A ratio (×) compares lines of one run; the line that the others are
compared with is marked ×1.00. Look at CPU a message first, at the rate second.

## How to repeat it

```console
$ just bench                # everything; leave the machine alone meanwhile
$ just bench real           # one section, by the name under its title
$ just bench-report         # writes this page
```

[`benchmarks/README.md`](../benchmarks/README.md) describes the method, and how to install natsio, Go's command line and FastStream.
"""


def page(reports: dict[str, Report]) -> str:
    """The whole page."""
    parts = [HEAD]
    parts += [
        "\n## What was measured\n\n",
        *(part for name in sections.COMPARISONS for part in section(reports, name)),
    ]
    parts += [part for name in sections.LATENCIES for part in delays(reports, name)]
    parts += collectors(reports)
    parts += [
        "\n## How cost grows\n\n",
        *(part for name in sections.GROWTH for part in section(reports, name)),
    ]
    parts += ["\n## What to bear in mind\n\n", *(f"- {one}\n" for one in CAVEATS)]
    parts += ["\n## What was not measured\n\n", *(f"- {one}\n" for one in NOT_MEASURED)]
    return "".join(parts).replace("\n\n\n", "\n\n")


def plots(reports: dict[str, Report]) -> dict[str, str]:
    """The pictures by their files' names."""
    return {
        f"{name}.svg": curves(reports[name].results, one.axis)
        if one.axis
        else bars(reports[name].results, one.counted)
        for name, one in sections.SECTIONS.items()
        if name in reports
    }


def section(reports: dict[str, Report], name: str) -> Iterator[str]:
    one = sections.SECTIONS[name]
    yield f"\n### {one.title}\n\n`just bench {name}`: {one.says}\n\n"
    if name not in reports:
        yield "Not measured yet.\n"
        return
    report = reports[name]
    yield f"![{one.title}](performance/{name}.svg)\n\n"
    timed = any(each.p50 is not None for each in report.results)
    yield f"| | {one.counted}/s | | CPU µs | | server CPU µs | MB |{' half within ms | 99 of 100 |' if timed else ''}\n"
    yield f"|---|--:|--:|--:|--:|--:|--:|{'--:|--:|' if timed else ''}\n"
    yield from (row(each) for each in report.results)
    yield "\n"
    if not one.axis:
        yield from (f"- {line}\n" for line in compare(report))
    yield from (f"- {line}\n" for line in kept(report))
    yield from (f"- Skipped: {each.name}, {each.reason}.\n" for each in report.skipped)
    yield from ("\n", measured(report))


def row(one: Result) -> str:
    dropped = "" if one.dropped is None else f" ({one.dropped:,} spans dropped)"
    delays = "" if one.p50 is None else f" {one.p50:,.2f} | {one.p99:,.2f} |"
    return (
        f"| {one.name}{dropped} | {one.rate:,.0f} ({one.slowest:,.0f}–{one.fastest:,.0f}) | ×{one.rate_ratio:.2f} "
        f"| {one.cpu:,.1f} | ×{one.cpu_ratio:.2f} | {one.server_cpu:,.1f} | {one.memory:,.0f} |{delays}\n"
    )


def delays(reports: dict[str, Report], name: str) -> Iterator[str]:
    one = sections.LATENCIES[name]
    yield f"\n### {one.TITLE}\n\n`just bench {name}`: {one.SAYS}\n\n"
    if name not in reports:
        yield "Not measured yet.\n"
        return
    report = reports[name]
    yield "| milliseconds | half within | 99 of 100 within | longest | longest of all rounds |\n|---|--:|--:|--:|--:|\n"
    for each in report.latency:
        yield f"| {each.name} | {each.p50:.3f} | {each.p99:.3f} | {each.max:.3f} | {each.worst:.3f} |\n"
    yield from ("\n", measured(report))


def collectors(reports: dict[str, Report]) -> Iterator[str]:
    yield f"\n### {collected.TITLE}\n\n`uv run python -m benchmarks.collectors`: {collected.SAYS}\n\n"
    if "collectors" not in reports:
        yield "Not measured yet.\n"
        return
    yield from collected.table(reports["collectors"].collectors)
    yield from ("\n", measured(reports["collectors"]))


def measured(report: Report) -> str:
    machine = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    natsio = f", natsio {machine.natsio}" if machine.natsio else ""
    sentence = (
        f"{report.date}, commit {machine.commit}: {machine.cpu}, {machine.cores} cores, {machine.python}, nats-server "
        f"{machine.nats_server}, {versions}{natsio}; up to {report.messages:,} messages, {report.rounds} rounds; load before: {machine.load}."
    )
    if report.quiet:
        return f"{sentence}\n"
    return f"{sentence} **Others kept {report.elsewhere:g} cores busy meanwhile: these figures are rough, and wait for a quiet machine.**\n"


def write(reports: dict[str, Report], page_file: Path = PAGE, folder: Path = PLOTS) -> None:
    folder.mkdir(exist_ok=True)
    pictures = plots(reports)
    for old in folder.glob("*.svg"):
        if old.name not in pictures:
            old.unlink()
    for name, picture in pictures.items():
        (folder / name).write_text(picture)
    page_file.write_text(page(reports))


if __name__ == "__main__":
    write(committed())
