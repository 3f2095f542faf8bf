"""Takes traces over OTLP/HTTP and only reads them; they are counted when the run is over, not while the clock runs.

python -m benchmarks.sink

Prints its port. GET /taken answers how many spans came since the last time.
"""

from __future__ import annotations

import gzip
import threading
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.contender import environment, spawned

UNPACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}


class Sink:
    """A sink that listens, seen from outside."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"

    def taken(self) -> int:
        """How many spans came since the last time."""
        with urllib.request.urlopen(f"{self.endpoint}/taken", timeout=60) as answer:
            return int(answer.read())


@contextmanager
def listening() -> Iterator[Sink]:
    """A sink as a process of its own, while the block lasts."""
    with spawned("sink", env=environment()) as process:
        assert process.stdout is not None
        yield Sink(int(process.stdout.readline()))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bodies: list[tuple[str, bytes]] = []  # noqa: RUF012  one sink a process
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            self.bodies.append((self.headers.get("Content-Encoding", ""), body))
        self._answer(b"")

    def do_GET(self) -> None:
        with self.lock:
            bodies = self.bodies.copy()
            self.bodies.clear()
        self._answer(str(sum(count(UNPACK[encoding](body)) for encoding, body in bodies)).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the standard library's name
        """Say nothing."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def count(body: bytes) -> int:
    """Spans of one export."""
    request = ExportTraceServiceRequest.FromString(body)
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def main() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
