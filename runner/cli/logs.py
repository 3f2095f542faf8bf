"""The log on stderr: a line for each record, with its traceback below if it has one; or a JSON document for each record."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import Any

import click
import msgspec

from runner.cli import printed, times
from runner.core import shown

INDENT = "  "
STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "facts"})
"""The attributes that every record has; a record's caller has given all others."""
COLORS = {"DEBUG": "bright_black", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


class Lines(logging.Formatter):
    """Writes records as `2031-05-04T12:00:01.250Z warning functions.charge: …`, with the traceback indented below.

    Both may hold text of others: characters that act on a terminal are escaped, and no line of such text begins as a record does.
    """

    def __init__(self, *, processes: bool = False) -> None:
        super().__init__()
        self._processes = processes

    def format(self, record: logging.LogRecord) -> str:
        """Write one record as text."""
        level = click.style(f"{record.levelname.lower():7}", fg=COLORS.get(record.levelname))
        place = record.name.removeprefix("jetrunner.")
        if message_id := getattr(record, "message_id", None):
            place = f"{place} {message_id} attempt {getattr(record, 'attempt', '?')}"
        text = shown.line(record.getMessage())
        process = f"[{record.process}] " if self._processes else ""
        line = f"{times.stamp(record.created)} {process}{level} {shown.line(place)}: {text}"
        if record.exc_info:
            line += "\n" + shown.block(self.formatException(record.exc_info), INDENT)
        elif record.exc_text:
            line += "\n" + shown.block(record.exc_text, INDENT)
        if record.stack_info:
            line += "\n" + shown.block(self.formatStack(record.stack_info), INDENT)
        return line


class Documents(logging.Formatter):
    """Writes each record as a JSON document; the values given as `extra`, and the current trace, are fields."""

    def __init__(self) -> None:
        super().__init__()
        from runner.telemetry.current import message, trace_id  # noqa: PLC0415  only documents need it

        self._trace_id = trace_id
        self._about = message

    def format(self, record: logging.LogRecord) -> str:
        """Write one record as JSON."""
        facts: dict[str, Any] = {
            "time": times.stamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        given = {name: _plain(value) for name, value in vars(record).items() if name not in STANDARD}
        if isinstance(own := getattr(record, "facts", None), dict):
            given |= own
        given = {**self._about(), **given}
        if trace := self._trace_id():
            given.setdefault("trace_id", trace)
        if record.exc_info:
            given["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:
            given["traceback"] = record.exc_text
        if record.stack_info:
            given["stack"] = self.formatStack(record.stack_info)
        return printed.data({**given, **facts}, indent=None)


class Stderr(logging.Handler):
    """Writes records to stderr through click, which colours only for a terminal; a failure to write raises nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            with suppress(OSError):  # stderr is closed
                click.echo(self.format(record), err=True)
        except Exception:  # noqa: BLE001  handleError is how logging reports it
            self.handleError(record)


def _plain(value: Any) -> Any:
    """A value of the user's in a form that JSON can hold; its type's name if it has none."""
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=str)
    except Exception:  # noqa: BLE001  a record must not be lost because of a value given with it
        return f"({type(value).__name__})"


def configure(level: str, form: str = "text", *, processes: bool = False) -> None:
    """Write records of `level` and above to stderr; of other libraries warnings and above only, at level debug also info.

    `form` is text or json. With `processes`, a line of text has the id of its process.
    """
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, Stderr)]
    handler = Stderr()
    handler.setFormatter(Documents() if form == "json" else Lines(processes=processes))
    root.addHandler(handler)
    chosen = getattr(logging, level.upper())
    root.setLevel(max(chosen, logging.WARNING) if chosen > logging.DEBUG else logging.INFO)
    for name in ("jetrunner", "functions"):
        logging.getLogger(name).setLevel(chosen)
    logging.captureWarnings(capture=True)


def debugging() -> bool:
    """Whether the log level is debug, at which errors are printed with a traceback; known even before the settings are read."""
    asked = os.environ.get("JETRUNNER_LOG_LEVEL", "").lower() == "debug"
    return asked or logging.getLogger("jetrunner").level == logging.DEBUG
