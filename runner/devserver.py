"""The files in which a running `runner dev` writes the addresses of its server and its traces: commands and `connect()` read them."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner.config import Settings
from runner.errors import Unreachable

FUNCTIONS = "functions"
FOLDER = ".jetrunner"
"""The folder in the project where `runner dev` keeps its files."""
URL = Path(FOLDER) / "nats-url"
TRACES = Path(FOLDER) / "traces-url"
ANSWER_SECONDS = 0.5

_VARIABLES = ("JETRUNNER_NATS_URL", "NATS_URL", "JETRUNNER_NATS_CONTEXT", "NATS_CONTEXT")


def find_root(start: Path) -> Path:
    """The folder of a project: `start`, or its nearest parent with pyproject.toml beside functions/; without one `start`."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file() and (folder / FUNCTIONS).is_dir():
            return folder
    return start


def is_elsewhere(settings: Settings, given: Mapping[str, Any]) -> bool:
    """Whether the caller (`given`), the environment or the project says where NATS is: then the server of `runner dev` is not used."""
    return (
        any(given.get(key) for key in ("nats_url", "nats_context"))
        or any(os.environ.get(name) for name in _VARIABLES)
        or settings.nats_url != Settings().nats_url
        or settings.nats_context is not None
    )


def address(root: Path) -> str:
    """The address of the project's running `runner dev`; empty when there is none. Unreachable when it does not answer."""
    try:
        url = (root / URL).read_text(encoding="utf-8").strip()
        parts = urlsplit(url)
    except (OSError, ValueError):
        return ""
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=ANSWER_SECONDS):
            return url
    except (OSError, ValueError):
        if not _announcer_lives(root / URL):
            return ""
    raise Unreachable(
        f"the nats-server of `runner dev` at {url} does not answer",
        hint="dev starts it again in a moment: try again, or see .jetrunner/nats-server.log",
    )


def traces(root: Path) -> str:
    """The address of the running `runner dev` for traces; empty when there is none."""
    try:
        url = (root / TRACES).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
    return url if _announcer_lives(root / TRACES) else ""


def traced(root: Path, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment, with the running `runner dev` as the collector if it sets none."""
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if any(environ.get(name) for name in names) or not (url := traces(root)):
        return environ
    return {**environ, names[1]: f"{url}/v1/traces"}


@contextmanager
def announced(root: Path, url: str, place: Path = URL) -> Iterator[None]:
    """Write the address to its file for the time of the block.

    The file is locked meanwhile. While it is locked its address is valid, even if the server is down for a moment.
    """
    file = root / place
    file.parent.mkdir(exist_ok=True)
    with file.open("w", encoding="utf-8") as opened:
        fcntl.flock(opened, fcntl.LOCK_SH)
        opened.write(url + "\n")
        opened.flush()
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _announcer_lives(file: Path) -> bool:
    """Whether the process that wrote the address still runs: it holds the lock."""
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
