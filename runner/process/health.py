"""Health over HTTP: `/livez`, `/readyz`, `/metrics`. Small on purpose: GET, one answer a connection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from runner.errors import SettingsError
from runner.jetstream import fork
from runner.process import askedmetrics, functionmetrics, httpmetrics
from runner.process.function import Function
from runner.process.metrictext import family, written
from runner.requests.callee import Callee
from runner.services.responder import Responder

if TYPE_CHECKING:
    from runner.gateway.edge import Edge

log = logging.getLogger("jetrunner.health")

PLAIN = "text/plain; charset=utf-8"


class Health:
    """Answers for one process. A process with a blocked loop answers nothing: `/livez` is there to notice that."""

    def __init__(
        self,
        functions: Sequence[Function],
        ready: Callable[[], str],
        responders: Sequence[Responder] = (),
        web: Edge | None = None,
        callees: Mapping[tuple[str, str], Callee] | None = None,
        lost: Callable[[], int] = lambda: 0,
    ) -> None:
        """`callees` are the functions that this process asks, `lost` counts spans that did not arrive at their collector."""
        self._targets = {} if callees is None else callees
        self._lost = lost
        self._functions = functions
        self._responders = responders
        self._web = web
        self._ready = ready
        """Returns why the process is not ready; empty when it is."""

    @asynccontextmanager
    async def listen(self, address: str) -> AsyncIterator[None]:
        """Serve on HOST:PORT for the time of the block."""
        host, _, port = address.rpartition(":")
        try:
            server = await asyncio.start_server(self._answer, host.strip("[]") or None, int(port))
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"health cannot listen on {address}: {error}", hint="choose a free HOST:PORT"
            ) from None
        shown = server.sockets[0].getsockname()
        log.info("health at http://%s:%d: /livez, /readyz, /metrics", host or "0.0.0.0", shown[1])  # noqa: S104  shown
        listening = server.sockets[0]
        try:
            with fork.ours(listening.fileno):
                yield
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            accepted = ""
            async with asyncio.timeout(5):
                line = await reader.readline()
                while header := (await reader.readline()).strip():
                    name, _, value = header.decode("latin-1").partition(":")
                    if name.lower() == "accept":
                        accepted = value.strip()
            method, path, *_ = [*line.decode("latin-1").split(maxsplit=2), "", ""]
            path = path.partition("?")[0]
            if path == "/metrics" and method in ("GET", "HEAD"):
                # To write the metrics of 100 functions takes 0.1 s: the loop must go on meanwhile.
                kind, data = await asyncio.to_thread(written, self.families(), accepted)
                status = "200 OK"
            else:
                status, kind, data = self.respond(method, path)
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + (b"" if method == "HEAD" else data)
            )
            await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.LimitOverrunError):
            pass  # a client that went away or speaks something else
        finally:
            writer.close()

    def respond(self, method: str, path: str) -> tuple[str, str, bytes]:
        """Status line, content type and body for any request but one to `/metrics`."""
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", PLAIN, b"GET only\n"
        match path:
            case "/livez":
                return "200 OK", PLAIN, b"ok\n"
            case "/readyz":
                reason = self._ready()
                return (
                    ("503 Service Unavailable", PLAIN, f"{reason}\n".encode())
                    if reason
                    else ("200 OK", PLAIN, b"ok\n")
                )
        return "404 Not Found", PLAIN, b"there is /livez, /readyz and /metrics\n"

    def metrics(self, accepted: str = "") -> tuple[str, bytes]:
        """The content type and the text of all metrics; every series is there from the start."""
        return written(self.families(), accepted)

    def families(self) -> list[Metric]:
        """All metrics of the process, those without a series included."""
        now = time.monotonic()
        lost = family("jetrunner_spans_lost_total", "counter",
                      "Spans that found no room, or did not arrive at their collector.", [({}, self._lost())])  # fmt: skip
        return [
            *functionmetrics.families(self._functions, self._responders, now),
            lost,
            *(httpmetrics.families(self._web.counts) if self._web is not None else ()),
            *askedmetrics.families(self._targets, now),
        ]
