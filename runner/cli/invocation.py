"""Prints invocations for `runner dev`: a line for each, with the link to its trace."""

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
"""The environment variable of a worker whose traces only `runner dev` keeps: `runner trace` shows them, and no web page does."""
MARKS = {"ack": ("✓", "green"), "retry": ("↻", "yellow"), "dead": ("✗", "red"), "error": ("✗", "red")}


class Printer:
    """Prints each attempt when it ends, as text or as a line of JSON.

    Without a `trace_url`, the text names the command that shows the trace.
    """

    def __init__(self, output: str, trace_url: str, root: Path) -> None:
        self._json = output == "json"
        self._trace_url = trace_url
        self._root = root

    def __call__(self, attempted: Attempted) -> None:
        """Print one attempt."""
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
    """What became of a message (`ack`, `retry` or `dead`) or of a request (`ack` or `error`), and why.

    The reason is one line, without what is hidden; it is empty after a success.
    """
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
