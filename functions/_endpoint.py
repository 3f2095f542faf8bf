"""An HTTP endpoint that fails now and then: what alerts are posted to in the demo.

python -m functions._endpoint HOST PORT     as a process of its own, as in deploy/compose.yaml
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVERY = 4  # the fourth request fails, the eighth, …: no luck, so that every run of the demo has retries


class Endpoint(ThreadingHTTPServer):
    """Takes alerts; `taken` holds the idempotency keys it said yes to, `refused` counts its failures."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), _Handler)
        self.taken: set[str] = set()
        self.refused = 0
        self._asked = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.server_port}/alerts"

    def answer(self, key: str) -> HTTPStatus:
        """Take a request or fail it."""
        with self._lock:
            self._asked += 1
            if self._asked % EVERY == 0:
                self.refused += 1
                return HTTPStatus.SERVICE_UNAVAILABLE
            self.taken.add(key)
            return HTTPStatus.NO_CONTENT


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.answer(self.headers.get("Idempotency-Key", "")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the demo has its own words."""


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """An endpoint for the length of the block."""
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    Endpoint(sys.argv[1], int(sys.argv[2])).serve_forever()
