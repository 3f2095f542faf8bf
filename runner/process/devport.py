"""The port of a project's own server: the same at each start, so that an address that was written down stays right.

Rule 1: it is the project's once it was chosen, and stands in its folder; it is derived from the folder's path.
Rule 2: while another program has it, the server takes another one, and comes back to its own the next time.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

FILE, HTTP_FILE = "port", "http-port"
FIRST = 20_000
"""Systems give higher ports (from 32768 or 49152 on) to connections that go out."""
COUNT = 10_000
TRIES = 50


def own(folder: Path, file: str = FILE) -> int | None:
    """The port that was chosen for the server of this folder; None when none was, or the file is no port."""
    try:
        port = int((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return port if 1024 <= port <= 65_535 else None


def choose(folder: Path, file: str = FILE) -> int:
    """A port of 127.0.0.1 that is free now: the project's own if it can be; 0 leaves the choice to the server.

    `file` keeps it: another one, another port.
    """
    kept = own(folder, file)
    if kept is not None and is_free(kept):
        return kept
    port = next((port for port in _candidates(folder / file if file != FILE else folder) if is_free(port)), 0)
    if kept is None and port:
        with suppress(OSError):  # without the file it is derived again
            (folder / file).write_text(f"{port}\n", encoding="utf-8")
    return port


def is_free(port: int) -> bool:
    """Whether nothing listens there; a connection that has just ended does not count."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def _candidates(folder: Path) -> Iterator[int]:
    first = zlib.crc32(str(folder.resolve()).encode("utf-8", "surrogateescape"))
    for step in range(TRIES):
        yield FIRST + (first + step) % COUNT
