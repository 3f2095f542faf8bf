"""Health over HTTP: `/livez`, `/readyz`, `/metrics`. Small on purpose: GET, one answer a connection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, get_args

from runner.consumers.function import Function
from runner.core.answered import OK
from runner.core.service import CODES, FAILED, NotStarted
from runner.core.settlement import Reason
from runner.errors import SettingsError
from runner.jetstream import fork
from runner.ordered.function import OrderedFunction
from runner.pipeline.stats import Stats
from runner.process import asked, httpmetrics
from runner.process.metrictext import family, histogram
from runner.process.served import Served
from runner.requests.target import Target
from runner.services.counts import Counts
from runner.services.responder import Responder

if TYPE_CHECKING:
    from runner.gateway.edge import Edge

log = logging.getLogger("jetrunner.health")

PLAIN = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """Answers for one process. A blocked loop answers nothing: that is what `/livez` is for."""

    def __init__(
        self,
        functions: Sequence[Function],
        ready: Callable[[], str],
        responders: Sequence[Responder] = (),
        web: Edge | None = None,
        targets: Mapping[tuple[str, str], Target] | None = None,
        lost: Callable[[], int] = lambda: 0,
    ) -> None:
        """`targets` are the functions that this process asks, `lost` counts spans that did not arrive at their collector."""
        self._targets = {} if targets is None else targets
        self._lost = lost
        self._functions = functions
        self._responders = responders
        self._web = web
        self._ready = ready
        """Empty when ready, else the reason why not."""

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
            async with asyncio.timeout(5):
                line = await reader.readline()
                while (await reader.readline()).strip():
                    pass
            method, path, *_ = [*line.decode("latin-1").split(maxsplit=2), "", ""]
            status, kind, body = self.respond(method, path.partition("?")[0])
            data = body.encode()
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

    def respond(self, method: str, path: str) -> tuple[str, str, str]:
        """Status line, content type and body for a request."""
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", PLAIN, "GET only\n"
        match path:
            case "/livez":
                return "200 OK", PLAIN, "ok\n"
            case "/readyz":
                reason = self._ready()
                return (
                    ("503 Service Unavailable", PLAIN, f"{reason}\n") if reason else ("200 OK", PLAIN, "ok\n")
                )
            case "/metrics":
                return "200 OK", METRICS, self.metrics()
        return "404 Not Found", PLAIN, "there is /livez, /readyz and /metrics\n"

    def metrics(self) -> str:
        """Prometheus' text format; every series is there from the start."""
        each = [(label_of(function), function.stats, function) for function in self._functions]
        answering = [(label_of(responder), responder.stats, responder) for responder in self._responders]
        every: list[tuple[str, Stats, Served]] = [*each, *answering]
        joining = [(label, joins) for label, _, function in each if (joins := function.joins) is not None]
        now = time.monotonic()
        lines = [
            *family(
                "jetrunner_messages_total",
                "counter",
                "Attempts settled, by outcome: ack, retry, or the reason of the dead letter.",
                [
                    (f'{label},outcome="{outcome}"', count)
                    for label, stats, _ in each
                    for outcome, count in outcomes(stats).items()
                ],
            ),
            *family("jetrunner_in_flight", "gauge", "Messages in work.",
                    [(label, function.unsettled) for label, _, function in every]),
            *family("jetrunner_pending", "gauge", "Messages not yet delivered, as the server last said.",
                    [(label, function.pending) for label, _, function in each]),
            *family("jetrunner_shards", "gauge", "Shards of an ordered function that this instance works on.",
                    [(label, function.working) for label, _, function in each
                     if isinstance(function, OrderedFunction)]),
            *family("jetrunner_errors_unkept_total", "counter",
                    "Errors of attempts to be retried that were not kept for `runner message show`.",
                    [(label, function.unkept) for label, _, function in each]),
            *family("jetrunner_throttled", "gauge",
                    "1 while an instance takes fewer messages, since it fails far more often than the others.",
                    [(label, int(bool(function.throttled))) for label, _, function in each]),
            *family("jetrunner_rate", "gauge", "Messages ended a second, over ten seconds.",
                    [(label, stats.rate(now)) for label, stats, _ in every]),
            *family("jetrunner_gather_events", "gauge",
                    "Events that wait for parts, as the server last said.",
                    [(label, joins.waiting) for label, joins in joining]),
            *family("jetrunner_gather_parts_missing_total", "counter",
                    "Parts that had not come when their event was joined without them.",
                    [(label, joins.missing) for label, joins in joining]),
            *family("jetrunner_gather_parts_late_total", "counter",
                    "Parts that came after their event was joined, and were dropped.",
                    [(label, joins.late) for label, joins in joining]),
            *family("jetrunner_requests_total", "counter",
                    "Requests answered, by code; not_started tells why a handler has not begun.",
                    [sample for label, counts, _ in answering for sample in requests(label, counts)]),
        ]  # fmt: skip
        lines += family("jetrunner_spans_lost_total", "counter",
                        "Spans that found no room, or did not arrive at their collector.", [("", self._lost())])  # fmt: skip
        lines += histogram(
            "jetrunner_duration_seconds",
            "Time in the handler, of each attempt.",
            [(label, stats.duration) for label, stats, _ in every],
        )
        if self._web is not None:
            lines += httpmetrics.lines(self._web.counts)
        lines += asked.lines(self._targets, now)
        return "\n".join(lines) + "\n"


def label_of(function: Served) -> str:
    """What names a function in each of its series."""
    return f'function="{function.binding.function}"'


def requests(label: str, counts: Counts) -> list[tuple[str, int]]:
    """How often a function has answered with each code; those of every function are there from the start."""
    codes = {OK: counts.acked, FAILED: 0, **counts.codes}
    reasons: tuple[NotStarted, ...] = ("overloaded", "expired", "draining")
    refused = {why: counts.not_started[why] for why in reasons}
    return [
        *((f'{label},code="{code}",not_started=""', number) for code, number in sorted(codes.items())),
        *((f'{label},code="{CODES[why]}",not_started="{why}"', number) for why, number in refused.items()),
    ]


def outcomes(stats: Stats) -> dict[str, int]:
    """How often each outcome was, those that never were included."""
    never = dict.fromkeys(get_args(Reason), 0)
    return {"ack": stats.acked, "retry": stats.retried, **never, **stats.dead}
