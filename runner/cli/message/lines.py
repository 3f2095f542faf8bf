"""The story of a message as lines of text: the message, below it each function, and below each function its outputs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from runner.cli import times
from runner.core import shown
from runner.core.quantity import counted

COLORS = {
    "done": "green",
    "dead": "red",
    "parked": "red",
    "gone": "red",
    "unknown": "red",
    "retrying": "yellow",
    "returning": "yellow",
}
STEP = "  "


def lines(
    message: Mapping[str, Any], indent: str = "", *, whole: bool = True, linked: bool = True
) -> Iterator[str]:
    """The lines of a message's story.

    If not `whole`, the trace is left out, which stands above already. If not `linked`, no web page shows the trace, and the line
    names the command that does.
    """
    yield indent + "  ".join(_head(message))
    inner = indent + STEP
    if message["gone"]:
        yield f"{inner}gone from its stream: {shown.line(message['gone'])}"
    if message["copy_of"]:
        yield f"{inner}a copy of {shown.line(message['copy_of'])}"
    if message["delayed"]:
        yield f"{inner}delayed until {shown.line(message['delayed']['at'] or 'now')}, then published to {shown.line(message['delayed']['subject'])}"
    if whole and message["trace_url"]:
        link = message["trace_url"] if linked else f"runner trace {message['trace_id']}"
        yield f"{inner}trace {shown.line(link)}"
    for function in message["functions"]:
        yield from _function(function, inner)
    if not message["functions"] and message["there"] and not message["delayed"]:
        yield f"{inner}no function reads it"


def _head(message: Mapping[str, Any]) -> list[str]:
    found = [click.style(shown.line(message["message_id"]), bold=True)]
    if message["there"]:
        found += [
            shown.line(message["subject"]),
            times.seconds(message["time"]),
            counted(message["size"], "byte"),
        ]
    return found


def _function(function: Mapping[str, Any], indent: str) -> Iterator[str]:
    name = function["function"]
    label = name if function["label"] == name else f"{function['label']} ({name})"
    state = click.style(function["state"], fg=COLORS.get(function["state"]), bold=True)
    about = ", ".join(_about(function))
    yield f"{indent}{shown.line(label)}: {state}{about and f', {about}'}"
    inner = indent + STEP
    letter, error = function["dead_letter"], function["error"]
    if letter is not None:
        why = f"{letter['error']}: {letter['message']}" if letter["message"] else letter["error"]
        yield f"{inner}{letter['reason']}: {shown.line(' '.join(why.split()))}"
    elif error is not None:
        yield f"{inner}attempt {error['attempt']} failed: {_failure(error)}"
    for output in function["outputs"]:
        if output["message"] is not None:
            first, *rest = lines(output["message"], inner + STEP, whole=False)
            yield f"{inner}→ {first.strip()}"
            yield from rest
        else:
            yield f"{inner}→ {shown.line(output['message_id'])}  {shown.line(output['subject'])}"
    if not function["outputs_whole"]:
        yield f"{inner}not all messages were looked at that may be outputs of it: there are too many, or it took too long"


def _about(function: Mapping[str, Any]) -> Iterator[str]:
    attempt, attempts = function["attempt"], function["attempts"]
    if attempt and function["state"] in ("running", "retrying", "settling", "queued", "unknown"):
        yield f"attempt {attempt}" + (f" of {attempts}" if attempts else "")
    if function["next_attempt"]:
        yield f"next one {_when(function['next_attempt'])}"
    if function["instance"]:
        yield f"in {shown.line(function['instance'])}"
    if function["since"]:
        yield f"since {times.seconds(function['since'])}"
    if function["why"]:
        yield shown.line(function["why"])


def _failure(error: Mapping[str, Any]) -> str:
    told = f"{error['error']}: {error['message']}" if error["message"] else error["error"]
    where = f", at {error['where']}" if error["where"] else ""
    return shown.line(" ".join(told.split()) + where + f" ({times.seconds(error['time'])})")


def _when(stamp: str) -> str:
    """How far away a time is, and the time itself."""
    left = datetime.fromisoformat(stamp).timestamp() - time.time()
    away = f"in {left:.0f} s" if left >= 1 else "now"
    return f"{away} ({times.seconds(stamp)})"
