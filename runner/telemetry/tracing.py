"""Traces of a running process: the small surface that the process and the commands use.

    tracing = Tracing(settings.load(os.environ), "shop")     # raises SettingsError; otherwise nothing here raises
    gate = tracing.gate                                      # gate.refill(time.monotonic()) every 100 ms
    tracing.install()                                        # after the user's code was imported

    for each message, only `if tracing.enabled`:
    if gate.admit(header) or (attempt > 1 and gate.admit_late()):
        span = tracing.start_attempt("charge", durable=…, subject=…, …)
        span.activate() → handler → span.deactivate()        # in the same task
        sent = span.output("payments.c1.charged", "PAYMENTS", template="payments.{customer}.charged")
        … publish with sent.headers …; sent.end(stream="PAYMENTS", sequence=7)
        span.end_ack() | span.end_retry(error, delay, next_attempt) |
        dead = span.dead_letter(subject) → publish with dead.headers → dead.end(…) → span.end_dead_letter(reason, error)
    else:
        outputs, if any, carry tracing.unsampled_headers(header, stream, sequence, timestamp_ns)
        a failure: span = tracing.late_attempt(the same, start_ns=when it began); None when there are too many

    tracing.shutdown(3.0)                                    # blocks: call it in a thread

The headers that these methods give replace headers of the same names in the message (`tracing.fields`, in lower case).
Span times are nanoseconds of Unix time. Any thread may call these methods, but only one the methods of `gate`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NotRequired, TypedDict, Unpack
from urllib.parse import urlsplit

from opentelemetry import context as contexts
from opentelemetry import trace

from runner.core import header as headers_of
from runner.core import traceparent
from runner.core.hop import Hop
from runner.telemetry import failure, publishing, shardspans, tryspan
from runner.telemetry.attempt import ORIGIN_TRACE, AttemptSpan, MakeHide, SentSpan
from runner.telemetry.functionspans import FunctionSpans
from runner.telemetry.httpspans import HttpSpans
from runner.telemetry.keys import HIDE, SERVICE
from runner.telemetry.passing import PROPAGATE, Passings
from runner.telemetry.propagation import TraceHeaders
from runner.telemetry.publishing import PublishSpan
from runner.telemetry.requestspans import RequestSpans
from runner.telemetry.settings import TelemetrySettings
from runner.telemetry.source import Attributes, SpanSource
from runner.telemetry.tryspan import Asker, TrySpan


class AttemptFacts(TypedDict):
    """Facts of one delivery to a function. A message that was sent back has the stream, sequence and timestamp of its first place."""

    durable: str
    subject: str
    template: str
    stream: str
    sequence: int
    timestamp_ns: int
    attempt: int
    attempts: int
    header: bytes | None
    body_size: int
    start_ns: NotRequired[int | None]
    hide: NotRequired[failure.Hide]
    """Removes the message's hidden values from texts."""
    more: NotRequired[Attributes]
    """More attributes of this attempt."""
    delivery: NotRequired[object]
    """The delivery, by which the log names the message."""


class Tracing:
    """Makes every span of the process; see the top of the module."""

    def __init__(self, settings: TelemetrySettings, project: str, *, one_try: bool = False) -> None:
        """`one_try` is for a command that ends at once: it must not wait for a missing collector."""
        self._source = SpanSource(settings, project, one_try=one_try)
        self._passings: dict[str, Passings] = {}
        self.enabled = settings.enabled
        self.gate = self._source.gate
        self.fields = self._source.propagation.fields | {ORIGIN_TRACE.lower()}
        self._usual = self._source.propagation.usual
        self._spans: dict[tuple[str, str, str, int], FunctionSpans] = {}
        self.logs_exceptions = settings.exceptions != "events"
        """Whether exceptions are told in the log, by OpenTelemetry's conventions."""
        self.tells_messages = False
        """Whether log lines name the message that they are about: then each attempt has a context, traced or not."""
        if settings.enabled:
            for warning in (*settings.warnings, *self._source.propagation.warnings):
                logging.getLogger("jetrunner.telemetry").warning("%s", warning)

    def install(self) -> None:
        """Let spans that the user's code makes with OpenTelemetry's API nest in its attempts, unless it has its own SDK."""
        services = self._source.services
        if services is None:
            return
        if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            services.own = False  # its processors and samplers may expect spans that the SDK makes
        else:
            from runner.telemetry.user_spans import UserTracerProvider  # noqa: PLC0415  only where it is used

            trace.set_tracer_provider(UserTracerProvider(services.provider))

    @property
    def server(self) -> dict[str, str | int]:
        """`server.address` and `server.port` of the NATS server, once connected."""
        return self._source.server

    @server.setter
    def server(self, facts: dict[str, str | int]) -> None:
        self._source.server = facts
        self._spans.clear()

    def at(self, url: str) -> None:
        """Set the address of the NATS server; spans that begin from now on have it."""
        parts = urlsplit(url)
        facts: dict[str, str | int] = {"server.address": parts.hostname or ""}
        if parts.port:
            facts["server.port"] = parts.port
        self.server = facts if parts.hostname else {}

    @property
    def arriving(self) -> bool:
        """Whether spans arrive, as far as is known."""
        return self._source.services is not None and self._source.services.export.arriving

    @property
    def lost(self) -> int:
        """Spans that did not arrive, since the start."""
        return 0 if self._source.services is None else self._source.services.export.lost

    def presume_missing(self) -> None:
        """Log nothing about a missing collector, because somebody has logged that already."""
        if self._source.services is not None:
            self._source.services.export.presume_missing()

    def start_attempt(self, function: str, **facts: Unpack[AttemptFacts]) -> AttemptSpan:
        """Start the span of an attempt that the gate has admitted, at `start_ns` or now."""
        key = function, facts["durable"], facts["template"], facts["attempts"]
        spans = self._spans.get(key)
        if spans is None:
            spans = self._spans[key] = self.spans(*key)
        return spans.start(
            facts["subject"],
            facts["stream"],
            facts["sequence"],
            facts["timestamp_ns"],
            facts["attempt"],
            facts["header"],
            facts["body_size"],
            facts.get("start_ns"),
            facts.get("hide"),
            facts.get("more"),
            facts.get("delivery"),
        )

    def spans(
        self,
        function: str,
        durable: str,
        template: str,
        attempts: int,
        hiding: MakeHide | None = None,
        *,
        ordered: bool = False,
    ) -> FunctionSpans:
        """Give the starter of one function's attempt spans; `ordered`: its messages are in shards.

        `hiding` makes, from a message's headers and body, the function that removes its hidden values from texts.
        """
        return FunctionSpans(self._source, function, durable, template, attempts, hiding, ordered=ordered)

    def request_spans(self, function: str, template: str, hiding: MakeHide) -> RequestSpans:
        """Give the starter of the spans of one function's requests; `hiding` is as for `spans`."""
        return RequestSpans(self._source, function, template, hiding)

    def http_spans(self) -> HttpSpans:
        """Give the starter of the spans of HTTP requests."""
        return HttpSpans(self._source)

    def late_attempt(self, function: str, **facts: Unpack[AttemptFacts]) -> AttemptSpan | None:
        """Start the span of a failed attempt that was not sampled, from when it began; None if there are over 20 a second."""
        return self.start_attempt(function, **facts) if self.gate.admit_late() else None

    @contextmanager
    def within(self, function: str, headers: TraceHeaders, hide: failure.Hide) -> Iterator[None]:
        """Let the user's spans nest in the attempt that these headers continue; it runs here for another process.

        `hide` removes the message's hidden values from their texts.
        """
        if not headers:  # the attempt is not traced
            yield
            return
        context = contexts.set_value(SERVICE, function, self._source.propagation.extract(headers))
        context = contexts.set_value(HIDE, hide, context)
        token = contexts.attach(context)
        try:
            yield
        finally:
            contexts.detach(token)

    def unsampled_headers(
        self, header: bytes | None, stream: str, sequence: int, timestamp_ns: int
    ) -> TraceHeaders:
        """Headers for outputs of a message that is not traced: they keep receivers from starting a trace."""
        kept: TraceHeaders = []
        parent: traceparent.TraceParent | None = None
        for name, value in headers_of.pairs(header) if header else ():
            if (lower := name.lower()) not in self._source.propagation.fields:
                continue
            if lower == "traceparent":
                parent = parent or traceparent.parse(value)
            else:
                kept.append((name, value))
        if not self._source.propagation.traceparent:
            return kept
        if parent is None:
            trace_id = traceparent.derived_trace_id(stream, sequence, timestamp_ns)
            parent = traceparent.TraceParent(trace_id, trace_id[16:], sampled=False)
        unsampled = traceparent.TraceParent(parent.trace_id, parent.span_id, sampled=False)
        return [("traceparent", traceparent.format(unsampled)), *kept]

    def unsampled_lines(self, header: bytes | None, stream: bytes, sequence: int, stored: bytes) -> bytes:
        """The same as lines of a header block; quick for the usual cases: only a `traceparent`, or no headers."""
        if self._usual:
            if header is None:
                return traceparent.derived_line(b"%b:%d.%b" % (stream, sequence, stored))
            lower = header.lower()
            if lower.count(b"traceparent:") == 1 and b"tracestate" not in lower and b"baggage" not in lower:
                line = traceparent.unsampled_line(header)
                if line is not None:
                    return line
        pairs = self.unsampled_headers(header, stream.decode(), sequence, int(stored))
        lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
        return lines.encode("utf-8", "surrogateescape")

    def passing(self, function: str) -> Passings | None:
        """Give the maker of contexts for attempts that are not traced; None if no code would read them."""
        if self.tells_messages or PROPAGATE in sys.modules:
            if (found := self._passings.get(function)) is None:
                found = Passings(self._source.propagation, self.unsampled_headers, function)
                self._passings[function] = found
            return found
        return None

    def takeover(
        self, function: str, shard: int, instances: tuple[str, str], left: int, start_ns: int
    ) -> None:
        """Make the span of a takeover; see `shardspans.takeover`."""
        shardspans.takeover(self._source, function, shard, instances, left, start_ns)

    def park_span(
        self, function: str, subject: str, header: bytes | None, place: tuple[str, int, int]
    ) -> SentSpan | None:
        """Start the span of a parked message; None if it is not traced. `place`: its stream, its sequence, and when it was stored."""
        return shardspans.parked(self._source, function, subject, header, place)

    def publish_span(
        self, subject: str, template: str = "", *, headers: Iterable[tuple[str, str]] = ()
    ) -> AbstractContextManager[PublishSpan]:
        """The span of a message sent outside of functions: in the trace of `headers`, else the current one, else a new one."""
        return publishing.publish(self._source, subject, template, headers).ending()

    def asking(
        self, asker: Asker, subject: bytes, pattern: str, instance: str, number: int
    ) -> tuple[TrySpan | None, bytes]:
        """The span of a try of a request, if it is traced, and header lines; see `telemetry/tryspan.py`."""
        return tryspan.ask(self._source, asker, subject, pattern, instance, number)

    def redrive_span(
        self, subject: str, headers: Iterable[tuple[str, str]]
    ) -> AbstractContextManager[PublishSpan]:
        """The span of a dead letter sent back to its function: a new trace, linked to the one in which the message was given up.

        `headers` are the dead letter's; the span's headers are sent in place of them all.
        """
        return publishing.redrive(self._source, subject, headers).ending()

    def hops(self) -> Callable[[Hop], None]:
        """Give a function that queues the span of a message's way through one server."""
        services = self._source.services
        if services is None:
            return lambda _: None
        from runner.telemetry.hops import Hops  # noqa: PLC0415  the SDK costs 150 ms and 20 MB

        return Hops(services).put

    def flush(self, timeout: float = 3.0) -> bool:
        """Send the queued spans; blocks for at most `timeout` seconds. False if spans may not have arrived."""
        return self._source.services is None or self._source.services.export.flush(timeout)

    def shutdown(self, timeout: float = 3.0) -> bool:
        """Send the queued spans and end; blocks for at most `timeout` seconds. False if spans were lost."""
        return self._source.services is None or self._source.services.export.shutdown(timeout)
