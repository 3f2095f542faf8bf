"""Forwards exports from the receiver of `runner dev` to the collector that they were meant for.

No caller waits for that. While a collector is down or slow, 64 exports wait, and any more are lost. After a failure the collector
is left alone for 2 s, and exports are lost.
"""

from __future__ import annotations

import http.client
import queue
import threading
import time
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

MOST = 64
"""Most exports that wait."""
PATIENCE_SECONDS = 3.0
PAUSE_SECONDS = 2.0
"""Pause after a failure."""
_OWN = frozenset({"host", "content-length", "connection", "transfer-encoding", "accept-encoding"})


class Forwarder:
    """Forwards exports while its `with` block runs."""

    def __init__(self, endpoint: str) -> None:
        """`endpoint` is an http:// URL."""
        parts = urlsplit(endpoint)
        self._host, self._port = parts.hostname or "localhost", parts.port or 80
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._waiting: queue.Queue[tuple[bytes, dict[str, str]] | None] = queue.Queue(MOST)
        self._not_before = 0.0
        self.lost = 0
        """Exports that did not arrive."""
        self._thread = threading.Thread(target=self._run, name="jetrunner-forward", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return  # a daemon thread does not delay the end of the process
        self._thread.join(0.3)

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Forward an export; returns at once."""
        kept = {name: value for name, value in headers.items() if name.lower() not in _OWN}
        try:
            self._waiting.put_nowait((body, kept))
        except queue.Full:
            self.lost += 1

    def _run(self) -> None:
        while (export := self._waiting.get()) is not None:
            if time.monotonic() < self._not_before or not self._sent(*export):
                self.lost += 1

    def _sent(self, body: bytes, headers: dict[str, str]) -> bool:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("POST", self._path, body, headers)
            return connection.getresponse().status < 300
        except (OSError, http.client.HTTPException):
            self._not_before = time.monotonic() + PAUSE_SECONDS
            return False
        finally:
            connection.close()
