"""The access log: a line of JSON for each request, written a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

MOST_LINES = 10_000
"""Most lines kept until they are written; any more are dropped, and counted."""
LONGEST = 1_024
"""Longest path or host, in characters; the rest is cut off."""

_encode = msgspec.json.Encoder().encode


class AccessLine(Struct, gc=False, omit_defaults=True, kw_only=True):
    """The line of one request that has been answered."""

    time: str = ""
    """The log sets it."""
    method: str
    host: str
    path: str
    route: str
    status: int
    bytes: int
    seconds: float
    client: str
    request_id: str
    trace_id: str = ""
    caller: str = ""
    why: str = ""
    """Why the connection was refused, before there was a request."""


class AccessLog:
    """The access log of one process. It shows no query, and of the headers only the request's id: others may hold secrets."""

    def __init__(self, write: Callable[[bytes], None] | None) -> None:
        """`write` gets whole lines; without it no line is written."""
        self.enabled = write is not None
        self._write = write
        self._lines: list[bytes] = []
        self._dropped = 0
        self._second = 0
        self._stamp = ""

    def note(self, line: AccessLine) -> None:
        """Note the line of an answered request."""
        if len(self._lines) >= MOST_LINES:
            self._dropped += 1
            return
        now = time.time()
        if (second := int(now)) != self._second:
            self._second = second
            self._stamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        line.time = f"{self._stamp}{int((now - second) * 1000):03d}Z"
        line.path, line.host = line.path[:LONGEST], line.host[:LONGEST]
        self._lines.append(_encode(line))

    def flush(self) -> None:
        """Write the noted lines; called a few times a second, and at the end."""
        if not self._lines or self._write is None:
            return
        lines, self._lines = self._lines, []
        if self._dropped:
            lines.append(_encode({"dropped_lines": self._dropped}))
            self._dropped = 0
        lines.append(b"")
        self._write(b"\n".join(lines))
