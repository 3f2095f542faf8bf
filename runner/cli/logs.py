"""The log on stderr: one line a record, and the traceback below it where there is one; or one JSON document a record."""

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
"""What every record has; the rest was given by who wrote it."""
COLORS = {"DEBUG": "bright_black", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


class Lines(logging.Formatter):
    """`2031-05-04T12:00:01.250Z warning functions.charge: …`, the traceback indented below it.

    Text of others is in both: what acts on a terminal is escaped, and no line of it begins as a record does.
    """

    def __init__(self, *, processes: bool = False) -> None:
        super().__init__()
        self._processes = processes

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
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
    """A JSON document a record; what was given as `extra`, and the trace it was written in, are fields."""

    def __init__(self) -> None:
        super().__init__()
        from runner.telemetry.current import message, trace_id  # noqa: PLC0415  for who asks for documents alone

        self._trace_id = trace_id
        self._about = message

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
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
    """Writes where click writes: colours only to a terminal, and never a second failure."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            with suppress(OSError):  # nobody reads stderr any more
                click.echo(self.format(record), err=True)
        except Exception:  # noqa: BLE001  logging's own way to tell
            self.handleError(record)


def _plain(value: Any) -> Any:
    """What JSON can say of a value of the user's."""
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=str)
    except Exception:  # noqa: BLE001  a record must not be lost for what somebody hung on it
        return f"({type(value).__name__})"


def configure(level: str, form: str = "text", *, processes: bool = False) -> None:
    """Write records of `level` and above to stderr, with their process ids if told; other libraries' from warning on.

    `form` is text or json.
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
    """Whether tracebacks are wanted; also before the settings could be read."""
    asked = os.environ.get("JETRUNNER_LOG_LEVEL", "").lower() == "debug"
    return asked or logging.getLogger("jetrunner").level == logging.DEBUG
