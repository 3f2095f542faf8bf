"""Selects the dead letters that a command is about, and shows one as data."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from runner.cli import code, functions
from runner.cli.options import Workplace
from runner.core import deadletter, quantity
from runner.core.deadletter import DeadLetter
from runner.core.redaction import Rules
from runner.core.settlement import Reason
from runner.errors import SettingsError, UsageError
from runner.jetstream.deadletters import DeadLetters, Selection
from runner.values import did_you_mean

F = TypeVar("F", bound=Callable[..., Any])


def selection_options(command: F) -> F:
    """Add `--function`, `--reason` and `--since` to a command."""
    for option in (
        click.option("--since", metavar="TIME", help="Stored since then: 15m, 24h, or 2031-05-04T12:00."),
        click.option("--reason", type=click.Choice(get_args(Reason)), help="Given up for this reason."),
        click.option("--function", metavar="NAME", help="Given up by this function."),
    ):
        command = option(command)
    return command


def selected(place: Workplace, function: str | None, reason: str | None, since: str | None) -> Selection:
    """The options as a selection; a function that was renamed may be called by either name.

    Raises UsageError for a text that is no time, SettingsError without a project.
    """
    project = place.settings.name
    require_project(project)
    if function is not None and not function.isidentifier():
        raise UsageError(f"{function!r} cannot be the name of a function")
    return Selection(
        project=project,
        function=functions.in_nats(place.root, project, function) if function else "",
        reason=reason or "",
        since=moment(since) if since else None,
    )


async def require_function(letters: DeadLetters, selection: Selection, root: Path) -> None:
    """Raise UsageError when neither the project nor its dead letters know the function that was asked for."""
    if not selection.function:
        return
    known = set(await letters.counts(selection.project))
    if selection.function in known:
        return
    try:
        known |= {each.function for each in code.load(root, selection.project).functions}
    except UsageError:
        return  # dead letters can be looked at even if the code cannot be imported
    if selection.function not in known:
        raise UsageError(
            f"there is no function {selection.function!r}, and no dead letter of one",
            hint=did_you_mean(selection.function, known)
            or f"there are: {', '.join(sorted(known)) or 'none'}",
        )


def require_project(name: str) -> str:
    """The project's name. Raises SettingsError when there is none."""
    if not name:
        raise SettingsError("there is no project here", hint="go into its folder, or give --project DIR")
    return name


def document(stored: DeadLetter, rules: Rules) -> dict[str, Any]:
    """One dead letter as data, without its body; `sequence` is the dead letter's own, `message_id` that of the original message."""
    letter = deadletter.redacted(stored, rules)
    return {
        "sequence": letter.sequence,
        "time": letter.time,
        "project": letter.project,
        "function": letter.function,
        "reason": letter.reason,
        "error": letter.error,
        "message": letter.message,
        "message_id": f"{letter.stream}:{letter.origin_sequence}",
        "stream": letter.stream,
        "stream_sequence": letter.origin_sequence,
        "subject": letter.subject,
        "attempts": letter.attempts,
        "body_size": len(stored.body),
        "body_omitted": letter.body_omitted,
        "headers_omitted": letter.headers_omitted,
    }


def moment(text: str, option: str = "--since") -> datetime:
    """A time as it is given on the command line; a duration, as 15m, means that long ago. Raises UsageError."""
    if re.fullmatch(r"[0-9.]+", text):
        raise UsageError(f"{option} {text!r} has no unit", hint=f"write {text}s, {text}m, {text}h or {text}d")
    try:
        return datetime.now(UTC) - timedelta(seconds=quantity.seconds(text))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {text!r} is neither a duration nor a time", hint="for example 15m, 24h, 2031-05-04"
        ) from None
