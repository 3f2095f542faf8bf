"""The log on stderr: one line a record, and the traceback below it where there is one."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress

import click

from runner.core import shown

INDENT = "  "
COLORS = {"DEBUG": "bright_black", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


class Lines(logging.Formatter):
    """`12:00:01.250 warning functions.charge: …`, the traceback indented below it.

    Text of others is in both: what acts on a terminal is escaped, and no line of it begins as a record does.
    """

    def __init__(self, *, processes: bool = False) -> None:
        super().__init__()
        self._processes = processes

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = click.style(f"{record.levelname.lower():7}", fg=COLORS.get(record.levelname))
        place = record.name.removeprefix("jetrunner.")
        if message_id := getattr(record, "message_id", None):
            place = f"{place} {message_id} attempt {getattr(record, 'attempt', '?')}"
        text = shown.line(record.getMessage())
        process = f"[{record.process}] " if self._processes else ""
        line = f"{clock}.{int(record.msecs):03} {process}{level} {shown.line(place)}: {text}"
        if record.exc_info:
            line += "\n" + shown.block(self.formatException(record.exc_info), INDENT)
        if record.stack_info:
            line += "\n" + shown.block(self.formatStack(record.stack_info), INDENT)
        return line


class Stderr(logging.Handler):
    """Writes where click writes: colours only to a terminal, and never a second failure."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            with suppress(OSError):  # nobody reads stderr any more
                click.echo(self.format(record), err=True)
        except Exception:  # noqa: BLE001  logging's own way to tell
            self.handleError(record)


def configure(level: str, *, processes: bool = False) -> None:
    """Write records of `level` and above to stderr, with their process ids if told; other libraries' from warning on."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, Stderr)]
    handler = Stderr()
    handler.setFormatter(Lines(processes=processes))
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
