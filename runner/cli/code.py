"""Imports the user's code in commands that print data; what that code prints goes to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

from runner import discovery
from runner.discovery import Project


def load(root: Path, name: str | None = None) -> Project:
    """The project in a folder, as `discovery.load` imports it."""
    with prints_aside():
        return discovery.load(root, name)


@contextmanager
def prints_aside() -> Iterator[None]:
    """Send stdout to stderr for the time of the block: for `print`, for writes to descriptor 1, and for programs that are started."""
    _flush()
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # descriptor 1 or 2 is closed
        kept = -1
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _flush()
        if kept >= 0:
            os.dup2(kept, 1)
            os.close(kept)


def _flush() -> None:
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
