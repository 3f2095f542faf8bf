"""The port of a project's own server: the same at each start, so that a noted address stays right.

Rule 1: the port is derived from the path of the server's folder; once chosen, it is kept in a file there.
Rule 2: while another program has that port, the server takes another one; at its next start it takes its own again.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

FILE, HTTP_FILE = "port", "http-port"
FIRST = 20_000
"""The lowest port. Systems give higher ports (from 32768 or 49152 on) to outgoing connections."""
COUNT = 10_000
TRIES = 50


def own(folder: Path, file: str = FILE) -> int | None:
    """The port that is kept for the server of this folder; None if there is none, or the file has no port."""
    try:
        port = int((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return port if 1024 <= port <= 65_535 else None


def choose(folder: Path, file: str = FILE) -> int:
    """A port of 127.0.0.1 that is free now: if possible the project's own. 0 leaves the choice to the server.

    The port is kept in `file`; each file keeps a port of its own.
    """
    kept = own(folder, file)
    if kept is not None and is_free(kept):
        return kept
    port = next((port for port in _candidates(folder / file if file != FILE else folder) if is_free(port)), 0)
    if kept is None and port:
        with suppress(OSError):  # without the file the port is derived again
            (folder / file).write_text(f"{port}\n", encoding="utf-8")
    return port


def is_free(port: int) -> bool:
    """Whether no program listens on the port; a connection that has just ended does not count."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def _candidates(folder: Path) -> Iterator[int]:
    first = zlib.crc32(str(folder.resolve()).encode("utf-8", "surrogateescape"))
    for step in range(TRIES):
        yield FIRST + (first + step) % COUNT
