"""One section's run, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from benchmarks.collected import Collected
from benchmarks.contender import Skipped
from benchmarks.http import Idle
from benchmarks.latency import Latency
from benchmarks.machine import Machine
from benchmarks.round import Result

RESULTS = Path(__file__).parent / "results"
QUIET = 0.2
"""More cores than this kept busy by others, and figures are not to be trusted."""


class Report(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    section: str
    date: str
    machine: Machine
    elsewhere: float
    """Cores that other processes kept busy meanwhile."""
    storage: str
    message_bytes: int
    messages: int
    rounds: int
    results: list[Result] = []
    latency: list[Latency] = []
    skipped: list[Skipped] = []
    idle: list[Idle] = []
    collectors: list[Collected] = []

    @property
    def quiet(self) -> bool:
        return self.elsewhere <= QUIET


def committed(folder: Path = RESULTS) -> dict[str, Report]:
    """What has been measured last, by section; ValidationError for a file of another shape."""
    found = [msgspec.json.decode(file.read_bytes(), type=Report) for file in sorted(folder.glob("*.json"))]
    return {report.section: report for report in found}


def write(report: Report, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.section}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    return path


def text(report: Report, title: str) -> str:
    lines = [
        "",
        f"{report.section}: {title}",
        (
            f"{report.machine.cpu}, {report.machine.cores} cores, {report.machine.python}, "
            f"nats-server {report.machine.nats_server}; load before {report.machine.load}, "
            f"busy with others {report.elsewhere} cores"
        ),
        *rows(report.results),
        *(
            f"  {one.name:32} p50 {one.p50:6.3f}   p99 {one.p99:6.3f}   max {one.max:7.3f}   "
            f"worst {one.worst:7.3f}   publisher late ≤{one.sent_late:.3f} ms"
            for one in report.latency
        ),
        *(f"  {one}" for one in compare(report)),
        *(f"  {one}" for one in kept(report)),
        *(f"SKIPPED  {one.name}: {one.reason}" for one in report.skipped),
    ]
    if not report.quiet:
        lines.append("WARNING  something else ran on this machine: these figures are for trying out")
    return "\n".join(lines)


def rows(results: list[Result]) -> Iterable[str]:
    width = max((len(one.name) for one in results), default=0)
    for one in results:
        spread = f"({one.slowest:,.0f}-{one.fastest:,.0f})"
        dropped = "" if one.dropped is None else f" spans dropped {one.dropped:,}"
        delays = "" if one.p50 is None else f" p50 {one.p50:.2f} p99 {one.p99:.2f} ms"
        yield (
            f"  {one.name:{width}} {one.rate:9,.0f}/s {spread:19} ×{one.rate_ratio:<6.2f} "
            f"CPU {one.cpu:7.2f} ×{one.cpu_ratio:<6.2f} server {one.server_cpu:6.2f} {one.memory:5.0f} MB{delays}{dropped}"
        )


def compare(report: Report) -> list[str]:
    """Us beside each other client, where a section has both at one place; one that does what one of ours does, beside that alone."""
    kinds = {kind(us) for us in report.results if us.ours}
    return [
        f"{us.name} / {one.name}: rate ×{us.rate / one.rate:.2f}, CPU ×{us.cpu / one.cpu:.2f}"
        for us in report.results
        if us.ours
        for one in report.results
        if not one.ours and one.at == us.at and (kind(one) not in kinds or kind(one) == kind(us))
    ]


def kind(one: Result) -> str:
    """What its name says behind who it is."""
    return one.name.partition(", ")[2]


def kept(report: Report) -> list[str]:
    """What idle connections keep in memory."""
    return [
        f"{one.name}: {one.connections:,} idle connections, {one.before:.0f} MB before, {one.memory:.0f} MB with them, "
        f"{(one.memory - one.before) / one.connections * 1024:.1f} kB each"
        for one in report.idle
    ]
