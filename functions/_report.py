"""What the demo prints."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from functions._dev import Tally
from functions._endpoint import Endpoint
from functions._failover import Outcome
from functions._overhttp import Answers
from runner.telemetry import waterfall
from runner.telemetry.span import Span

STEP = 0.1  # of the way: how often a progress line is worth printing where lines stay


def say(text: str = "") -> None:
    """One line, at once."""
    print(text, flush=True)


@contextmanager
def progress(goal: int) -> Iterator[Callable[[int, int, int], None]]:
    """A line that is rewritten on a terminal, and printed now and then elsewhere."""
    terminal = sys.stdout.isatty()
    told = -STEP

    def show(handled: int, retried: int, dead: int) -> None:
        nonlocal told
        share = handled / goal
        text = f"  {share:4.0%}  {handled:,} handled, {retried:,} retries, {dead:,} dead letters"
        if terminal:
            print(f"\r{text}", end="", flush=True)
        elif share >= told + STEP or (share == 1 and told < 1):
            told = share
            say(text)

    yield show
    if terminal:
        print()


def summary(
    messages: int,
    tally: Tally,
    functions: list[dict[str, Any]],
    letters: list[dict[str, Any]],
    trace: list[Span],
    server: Endpoint,
    begun: float,
) -> None:
    """Everything worth knowing about the run."""
    seconds = max(tally.last - tally.first, 0.001)
    say()
    say(f"{messages:,} records: {tally.handled:,} messages handled by {len(functions)} functions")
    say(f"  first handled   {tally.first - begun:.1f} s after the start of this command")
    say(f"  all handled     {seconds:.1f} s after the first: {tally.handled / seconds:,.0f} messages/s")
    say(f"  acknowledged    {tally.acknowledged:,}")
    say(
        f"  retried         {tally.retried:,}; the HTTP endpoint took {len(server.taken):,} alerts, failed {server.refused:,} times"
    )
    say(f"  dead letters    {len(letters):,}")
    say()
    say(
        f"  {'function':<10}{'handled':>9}{'retried':>9}{'dead':>6}{'p50':>11}{'p99':>11}   time in the handler"
    )
    for each in functions:
        say(
            f"  {each['function']:<10}{each['handled']:>9,}{each['retried']:>9,}{each['dead_letters']:>6,}"
            f"{_time(each['p50']):>11}{_time(each['p99']):>11}"
        )
    say()
    say("Dead letters (runner deadletter list):")
    kinds = Counter((letter["function"], letter["reason"], letter["message"]) for letter in letters)
    for (function, reason, message), count in sorted(kinds.items()):
        say(f"  {count} × {function}: {reason}: {message}")
    say()
    say("A late flight, from publish to the HTTP endpoint:")
    for line in waterfall.lines(trace, min(max(shutil.get_terminal_size((112, 24)).columns - 2, 80), 140)):
        say(f"  {line}")


def requests(outcome: Outcome) -> None:
    """What became of the requests while an instance was killed."""
    say()
    say(
        f"{outcome.compared:,} flights compared by {2 * outcome.compared:,} requests to three instances; "
        f"one was killed after {outcome.at_kill:,}: {outcome.again:,} failed"
    )


def answers(found: Answers) -> None:
    """What became of the requests over HTTP while an instance was killed."""
    statuses = ", ".join(f"{count:,} times {status}" for status, count in found.statuses.most_common())
    say(
        f"over HTTP, through an Ingress: {statuses}; an instance was killed after {found.at_kill:,}, "
        f"and the slowest answer took {_time(found.slowest)}"
    )


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs" if seconds >= 1e-6 else "< 1 µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
