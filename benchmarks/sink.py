"""A collector that only reads: what it costs is not the collector's work, and what came is counted afterwards.

python -m benchmarks.sink          prints its port; POST: an export; GET: how many spans came since the last GET
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.contender import ROOT

_bodies: list[bytearray] = []


class Sink:
    """A running sink."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        """What OTEL_EXPORTER_OTLP_ENDPOINT is to be."""

    def count(self) -> int:
        """Spans that came since this was last asked."""
        with urllib.request.urlopen(self.endpoint, timeout=60) as answer:
            return int(answer.read())


@contextmanager
def running() -> Iterator[Sink]:
    """A sink in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sink"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Sink(int(process.stdout.readline()))
        finally:
            process.kill()


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def serve(connection: socket.socket) -> None:
    """Answer the requests of one connection."""
    with connection:
        left = b""
        while True:
            while b"\r\n\r\n" not in left:
                got = connection.recv(65536)
                if not got:
                    return
                left += got
            head, _, left = left.partition(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = bytearray(length)
            view = memoryview(body)
            at = min(len(left), length)
            view[:at], left = left[:at], left[at:]
            while at < length:
                read = connection.recv_into(view[at:])
                if not read:
                    return
                at += read
            answer = b""
            if head.startswith(b"POST"):
                _bodies.append(body)
            else:
                answer = b"%d" % spans()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))


def spans() -> int:
    """Count what came, and forget it."""
    total = 0
    while _bodies:
        request = ExportTraceServiceRequest()
        request.ParseFromString(bytes(_bodies.pop()))
        total += sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
    return total


if __name__ == "__main__":
    main()
