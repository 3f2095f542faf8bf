"""The whole of one run, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from benchmarks.latency import Latency
from benchmarks.machine import Machine
from benchmarks.round import Result


class Report(msgspec.Struct):
    date: str
    machine: Machine
    storage: str
    message_bytes: int
    messages: int
    rounds: int
    latency_rate: int
    latency_seconds: float
    caveats: tuple[str, ...]
    skipped: list[str]
    throughput: list[Result] = []
    outputs: list[Result] = []
    tracing: list[Result] = []
    ordered: list[Result] = []
    latency: list[Latency] = []
    comparisons: list[str] = []


def text(report: Report) -> str:
    lines = [
        (
            f"{report.machine.cpu}, {report.machine.cores} cores, {report.machine.python}, "
            f"nats-server {report.machine.nats_server}, {report.storage} on {report.machine.file_system}, "
            f"load before: {report.machine.load}"
        ),
        (
            f"{report.messages:,} messages of {report.message_bytes} bytes, explicit acks; "
            f"medians of {report.rounds} interleaved rounds, in brackets slowest and fastest; "
            "CPU of client and server in µs a message; × compares with the line marked ×1.00"
        ),
    ]
    for name, results in (
        ("throughput: a typed no-op function", report.throughput),
        ("outputs: one for each input, confirmed before its ack", report.outputs),
        ("tracing: default (OTLP to the loopback) and off", report.tracing),
        ("strict order: 10,000 keys, concurrency 1024", report.ordered),
    ):
        if results:
            lines += ["", name, *rows(results)]
    if report.latency:
        lines += [
            "",
            f"latency: send to handler at {report.latency_rate:,} messages a second for {report.latency_seconds:g} s, ms",
            *(
                f"  {one.name:34} p50 {one.p50:6.3f}   p99 {one.p99:6.3f}   max {one.max:7.3f}   "
                f"worst {one.worst:7.3f}   publisher late ≤{one.sent_late:.3f}"
                for one in report.latency
            ),
        ]
    if report.comparisons:
        lines += ["", *report.comparisons]
    lines += [f"SKIPPED  {one}" for one in report.skipped]
    lines += ["", "What to bear in mind:", *(f"  - {one}" for one in report.caveats)]
    return "\n".join(lines)


def rows(results: Iterable[Result]) -> Iterable[str]:
    for one in results:
        spread = f"({one.slowest:,.0f}-{one.fastest:,.0f})"
        yield (
            f"  {one.name:34} {one.rate:9,.0f}/s {spread:19} ×{one.rate_ratio:<6.2f} "
            f"CPU {one.cpu:6.2f} ×{one.cpu_ratio:<6.2f} server {one.server_cpu:5.2f}"
        )


def compare(report: Report) -> list[str]:
    """Us beside each other contender."""
    lines = []
    for section, results in (("throughput", report.throughput), ("outputs", report.outputs)):
        others = [one for one in results if not one.name.startswith("jetrunner")]
        for us in results:
            if us.name.startswith("jetrunner"):
                lines += [
                    f"{section}: {us.name} / {one.name}: rate ×{us.rate / one.rate:.2f}, CPU ×{us.cpu / one.cpu:.2f}"
                    for one in others
                ]
    return lines
