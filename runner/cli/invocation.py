"""Invocations as `runner dev` shows them: a line each, with the link to its trace."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import click

from runner.cli import printed, times
from runner.core import raised, shown
from runner.core.answered import Answered
from runner.core.redaction import NONE, Values
from runner.core.settlement import Ack, Dead, Nak, Outcome, Settlement, TimedOut
from runner.runtime.blame import where
from runner.runtime.runtime import Attempted

KEPT = "_JETRUNNER_TRACES_KEPT"
"""Set for a worker of `runner dev` whose traces are kept there alone: `runner trace` shows them, no page does."""
MARKS = {"ack": ("✓", "green"), "retry": ("↻", "yellow"), "dead": ("✗", "red"), "error": ("✗", "red")}


class Printer:
    """Prints every attempt's end as it happens, as text or as JSON lines; without a `trace_url`, with the command that shows its trace."""

    def __init__(self, output: str, trace_url: str, root: Path) -> None:
        self._json = output == "json"
        self._trace_url = trace_url
        self._root = root

    def __call__(self, attempted: Attempted) -> None:
        """One attempt."""
        kind, reason = described(attempted.settlement, attempted.outcome, attempted.hidden)
        place = where(attempted.outcome, self._root)
        trace_id, milliseconds = attempted.trace_id, attempted.seconds * 1000
        trace = self._trace_url.replace("{trace_id}", trace_id) if trace_id else ""
        if self._json:
            facts = {
                "time": times.stamp(time.time()),
                "function": attempted.function,
                "message_id": attempted.message_id,
                "settlement": kind,
                "reason": reason,
                "where": place,
                "attempt": attempted.number,
                "ms": round(milliseconds, 3),
                "trace_id": trace_id,
                "trace_url": trace,
            }
            click.echo(printed.data(facts, indent=None))
            return
        mark, color = MARKS[kind]
        asked = isinstance(attempted.settlement, Answered)
        parts = [
            click.style(datetime.now().astimezone().strftime("%H:%M:%S"), fg="bright_black"),
            click.style(mark, fg=color, bold=True),
            click.style(attempted.function, bold=True),
            shown.line(attempted.message_id),
            *([] if asked else [f"attempt {attempted.number}"]),
            f"{milliseconds:.1f} ms",
        ]
        if reason:
            parts.append(shown.line(reason))
        if trace_id:
            parts.append(click.style(trace or f"runner trace {trace_id}", fg="bright_black"))
        click.echo("  ".join(parts))
        if place:
            click.echo(f"{'':8}  at {shown.line(place)}")


def described(settlement: Settlement | Answered, outcome: Outcome, hidden: Values = NONE) -> tuple[str, str]:
    """What became of the message (`ack`, `retry` or `dead`; of a request `ack` or `error`), and why in one line without what is hidden; empty after a success."""
    match settlement:
        case Ack() | Answered(code=200):
            return "ack", ""
        case Answered(code, text):
            return "error", _line(hidden.hide(f"{code}: {text}"))
        case Nak(delay):
            return "retry", f"again in {delay:.3g} s: {hidden.hide(_why(outcome))}"
        case Dead(reason, _, message, None):
            return "dead", _line(hidden.hide(f"{reason}: {message}"))
        case Dead(reason, error, message):
            return "dead", _line(
                hidden.hide(f"{reason}: {error}: {message}" if message else f"{reason}: {error}")
            )


def _why(outcome: Outcome) -> str:
    match outcome:
        case TimedOut(seconds):
            return f"no result within {seconds:g} s"
        case _ if isinstance(error := getattr(outcome, "error", None), BaseException):
            return raised.line(error)
        case _:
            return type(outcome).__name__


def _line(text: str) -> str:
    return " ".join(text.split())[:500]
