"""A collector that keeps what it was sent as it is, and may take its time."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Listens while its `with` block runs."""

    def __init__(self, port: int = 0) -> None:
        self.bodies: list[bytes] = []
        self.asked = threading.Event()
        """A request is here."""
        self.open = threading.Event()
        """Requests are answered."""
        self.open.set()
        self._server = _Server(self, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def requests(self) -> list[ExportTraceServiceRequest]:
        """All that came, decoded."""
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    def taken(self) -> list[tuple[str, Span]]:
        """Every span that came since this was last asked, behind its resource and scope."""
        requests = self.requests()
        self.bodies.clear()
        return [
            (f"{each.resource} {scope.scope} {each.schema_url} {scope.schema_url}", span)
            for request in requests
            for each in request.resource_spans
            for scope in each.scope_spans
            for span in scope.spans
        ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, collector: Collector, port: int) -> None:
        self.collector = collector
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.collector.asked.set()
        self.server.collector.open.wait(60)
        self.server.collector.bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
