"""The access log: a line of JSON for each request, written a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

MOST_LINES = 10_000
"""More are not kept for the next writing."""

_encode = msgspec.json.Encoder().encode


class AccessLog:
    """Of one process; a query is not told, nor any header but the request's id: they may hold what is secret."""

    def __init__(self, write: Callable[[bytes], None] | None) -> None:
        """`write` is given whole lines; without it nothing is told."""
        self.enabled = write is not None
        self._write = write
        self._lines: list[bytes] = []
        self._dropped = 0
        self._second = 0
        self._stamp = ""

    def note(
        self,
        *,
        method: str,
        host: bytes,
        path: bytes,
        route: str,
        status: int,
        size: int,
        seconds: float,
        client: str,
        request_id: str,
        trace_id: str,
        caller: str,
    ) -> None:
        """One request that has been answered."""
        if len(self._lines) >= MOST_LINES:
            self._dropped += 1
            return
        now = time.time()
        if (second := int(now)) != self._second:
            self._second = second
            self._stamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        told: dict[str, object] = {
            "time": f"{self._stamp}{int((now - second) * 1000):03d}Z",
            "method": method,
            "host": host.decode("latin-1"),
            "path": path.decode("ascii", "replace"),
            "route": route,
            "status": status,
            "bytes": size,
            "seconds": round(seconds, 6),
            "client": client,
            "request_id": request_id,
        }
        if trace_id:
            told["trace_id"] = trace_id
        if caller:
            told["caller"] = caller
        self._lines.append(_encode(told))

    def flush(self) -> None:
        """Write what was noted; called a few times a second, and at the end."""
        if not self._lines or self._write is None:
            return
        lines, self._lines = self._lines, []
        if self._dropped:
            lines.append(_encode({"dropped_lines": self._dropped}))
            self._dropped = 0
        lines.append(b"")
        self._write(b"\n".join(lines))
