"""A small OTLP/HTTP receiver on the loopback: keeps the latest spans in memory, for `runner dev` and tests.

POST /v1/traces                  an OTLP export in protobuf, plain, gzip or deflate
GET  /spans?trace=<32 hex>       the spans of one trace, as a JSON list
GET  /spans?message=ORDERS:17    the spans of every trace that handled this message
"""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

import msgspec

from runner.telemetry import otlp
from runner.telemetry.span import Span

LARGEST = 64 << 20
"""Largest export, in bytes, unpacked."""
CAPACITY = 10_000
_MESSAGE_ID = "messaging.message.id"


class Receiver:
    """A receiver that listens while its `with` block runs. Raises OSError if the port is taken."""

    def __init__(
        self,
        port: int = 0,
        *,
        capacity: int = CAPACITY,
        forward: Callable[[bytes, Mapping[str, str]], None] = lambda _body, _headers: None,
    ) -> None:
        """`port` 0 takes a free one; the latest `capacity` spans are kept; `forward` gets each export with its headers."""
        self.forward = forward
        self._spans: deque[Span] = deque(maxlen=capacity)
        self._changed = threading.Condition()
        self._server = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """The value for OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def spans(self) -> list[Span]:
        """All kept spans, in order of arrival."""
        with self._changed:
            return list(self._spans)

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of one trace."""
        return [span for span in self.spans() if span.trace_id == trace_id]

    def message(self, message_id: str) -> list[Span]:
        """The spans of every trace in which this message (`STREAM:SEQUENCE`) was sent or handled."""
        spans = self.spans()
        traces = {span.trace_id for span in spans if span.attributes.get(_MESSAGE_ID) == message_id}
        return [span for span in spans if span.trace_id in traces]

    def wait(self, enough: Callable[[list[Span]], bool], timeout: float = 10.0) -> list[Span]:
        """Block until the kept spans are `enough`; TimeoutError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: enough(list(self._spans)), timeout):
                names = ", ".join(span.name for span in self._spans) or "none"
                raise TimeoutError(f"not enough spans in {timeout:g} s; there are: {names}")
            return list(self._spans)

    def receive(self, spans: list[Span]) -> None:
        """Keep these spans."""
        with self._changed:
            self._spans.extend(spans)
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 30  # seconds that an idle connection is kept

    def do_POST(self) -> None:
        body = self._body()
        if body is None:
            return
        if urlsplit(self.path).path != "/v1/traces":
            self._answer(HTTPStatus.NOT_FOUND)
        elif "json" in self.headers.get("Content-Type", ""):
            self._answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, b"only protobuf is read")
        else:
            try:
                spans = otlp.decode(_unpacked(body, self.headers.get("Content-Encoding", "")))
            except ValueError as error:
                self._answer(HTTPStatus.BAD_REQUEST, str(error).encode())
                return
            self.server.receiver.receive(spans)
            self.server.receiver.forward(body, dict(self.headers.items()))
            self._answer(HTTPStatus.OK, content_type="application/x-protobuf")

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/spans" and "trace" in query:
            spans = self.server.receiver.trace(query["trace"][0].lower())
        elif url.path == "/spans" and "message" in query:
            spans = self.server.receiver.message(query["message"][0])
        else:
            self._answer(HTTPStatus.NOT_FOUND)
            return
        self._answer(HTTPStatus.OK, msgspec.json.encode(spans), content_type="application/json")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the standard library's name
        """Log nothing."""

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        self.close_connection = True  # for the error answers below: the body is still on its way
        if not length.isdecimal():
            self._answer(HTTPStatus.LENGTH_REQUIRED)
            return None
        if int(length) > LARGEST:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return None
        self.close_connection = False
        return self.rfile.read(int(length))

    def _answer(self, status: HTTPStatus, body: bytes = b"", *, content_type: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _unpacked(body: bytes, encoding: str) -> bytes:
    """Unpack at most LARGEST bytes; ValueError if the body does not match its encoding, or is too large."""
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip":
            window = zlib.MAX_WBITS | 16
        case "deflate":
            window = zlib.MAX_WBITS
        case other:
            raise ValueError(f"content encoding {other} is not read")
    packed = zlib.decompressobj(window)
    try:
        plain = packed.decompress(body, LARGEST)
    except zlib.error as error:
        raise ValueError(f"the body is not {encoding}") from error
    if not packed.eof:
        raise ValueError("the body is cut short, or too large")
    return plain
