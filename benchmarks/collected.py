"""What became of messages, memory, spans and the end of a process beside one collector, and the table of several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

TITLE = "Collectors that fail"
SAYS = (
    "2,000 messages a second for a minute, all of them traced. One process runs a function that does nothing, and the collector behaves as the first column says. "
    "The wait is the time from a message's publish, by the server's clock, to the first line of its handler. There is one span for each message; lost spans are "
    "counted in `jetrunner_spans_lost_total`, and a line in the log says so. The last column is how long the process takes to end after SIGTERM."
)


class Collected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    collector: str
    """What it does."""
    rate: float
    """Messages a second that were published."""
    p50: float
    p99: float
    max: float
    """Milliseconds from a message's publish to its handler."""
    memory: tuple[float, float]
    """Megabytes that the process had in memory: when it was ready, and at most."""
    spans: int
    lost: int | None
    """Spans that were lost when the last message was handled, as `/metrics` says."""
    shutdown: float
    """Seconds from SIGTERM to the end of the process."""
    exit: int
    told: list[str]
    """Lines of the log about the export."""


def table(found: Iterable[Collected]) -> Iterator[str]:
    yield "| the collector | messages/s | wait, half within ms | 99 of 100 | longest | MB at first | at most | spans | lost | end s |\n"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    for one in found:
        lost = "" if one.lost is None else f"{one.lost:,}"
        yield (
            f"| {one.collector} | {one.rate:,.0f} | {one.p50:,.1f} | {one.p99:,.1f} | {one.max:,.1f} "
            f"| {one.memory[0]:,.0f} | {one.memory[1]:,.0f} | {one.spans:,} | {lost} | {one.shutdown:.2f} |\n"
        )
