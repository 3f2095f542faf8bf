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

The headers given back here replace those of the same names in the message (`tracing.fields`, lower case).
Span times are Unix nanoseconds. All of it may be called from any thread, `gate` from one.
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
from runner.telemetry.attempt import ORIGIN_TRACE, AttemptSpan, Hiding, SentSpan
from runner.telemetry.functionspans import FunctionSpans
from runner.telemetry.httpspans import HttpSpans
from runner.telemetry.keys import HIDE, SERVICE
from runner.telemetry.passing import PROPAGATE, Passings
from runner.telemetry.propagation import Headers
from runner.telemetry.publishing import PublishSpan
from runner.telemetry.requestspans import RequestSpans
from runner.telemetry.settings import TelemetrySettings
from runner.telemetry.source import Attributes, SpanSource
from runner.telemetry.tryspan import Asker, TrySpan


class AttemptFacts(TypedDict):
    """One delivery of a message to a function; of a message sent back, stream, sequence and timestamp are its first."""

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
    """Takes out of texts what is not shown of the message."""
    more: NotRequired[Attributes]
    """What is told of this attempt besides."""
    delivery: NotRequired[object]
    """For the log: which message it is."""


class Tracing:
    """Makes every span of the process; see the top of the module."""

    def __init__(self, settings: TelemetrySettings, project: str, *, one_try: bool = False) -> None:
        """`one_try`: for a command that ends at once, to which a missing collector must cost no wait."""
        self._source = SpanSource(settings, project, one_try=one_try)
        self._passings: dict[str, Passings] = {}
        self.enabled = settings.enabled
        self.gate = self._source.gate
        self.fields = self._source.propagation.fields | {ORIGIN_TRACE.lower()}
        self._usual = self._source.propagation.usual
        self._spans: dict[tuple[str, str, str, int], FunctionSpans] = {}
        self.logs_exceptions = settings.exceptions != "events"
        """Whether what was raised is told in the log, as the conventions have it."""
        self.tells_messages = False
        """Whether the log tells which message a line is about: then each attempt has a context, traced or not."""
        if settings.enabled:
            for warning in (*settings.warnings, *self._source.propagation.warnings):
                logging.getLogger("jetrunner.telemetry").warning("%s", warning)

    def install(self) -> None:
        """Let spans the user's code makes with OpenTelemetry's API nest in its attempts, unless it has its own SDK."""
        services = self._source.services
        if services is None:
            return
        if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            services.own = False  # its processors and samplers may look at spans as the SDK makes them
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
        """Say where the NATS server is: spans that begin from now on tell it."""
        parts = urlsplit(url)
        facts: dict[str, str | int] = {"server.address": parts.hostname or ""}
        if parts.port:
            facts["server.port"] = parts.port
        self.server = facts if parts.hostname else {}

    @property
    def arriving(self) -> bool:
        """Whether spans arrive, as far as that is known."""
        return self._source.services is not None and self._source.services.export.arriving

    @property
    def lost(self) -> int:
        """Spans that did not arrive, since the start."""
        return 0 if self._source.services is None else self._source.services.export.lost

    def presume_missing(self) -> None:
        """Say nothing of a collector that is not there: somebody has told that already."""
        if self._source.services is not None:
            self._source.services.export.presume_missing()

    def start_attempt(self, function: str, **facts: Unpack[AttemptFacts]) -> AttemptSpan:
        """Start the span of one attempt the gate has admitted; `start_ns` is now unless given."""
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
        hiding: Hiding | None = None,
        *,
        ordered: bool = False,
    ) -> FunctionSpans:
        """What starts the attempts of one function; `ordered`: its messages stand in shards.

        `hiding` makes of a message's headers and body what takes out of texts what is not shown of it.
        """
        return FunctionSpans(self._source, function, durable, template, attempts, hiding, ordered=ordered)

    def request_spans(self, function: str, template: str, hiding: Hiding) -> RequestSpans:
        """What starts the spans of the requests that one function answers; `hiding` as that of `spans`."""
        return RequestSpans(self._source, function, template, hiding)

    def http_spans(self) -> HttpSpans:
        """What starts the spans of requests that come over HTTP."""
        return HttpSpans(self._source)

    def late_attempt(self, function: str, **facts: Unpack[AttemptFacts]) -> AttemptSpan | None:
        """The span of an attempt that was not sampled and failed, started when it began; None when over 20 a second."""
        return self.start_attempt(function, **facts) if self.gate.admit_late() else None

    @contextmanager
    def within(self, function: str, headers: Headers, hide: failure.Hide) -> Iterator[None]:
        """Spans of the user's nest in the attempt that these headers continue: it runs here for another process.

        `hide` takes out of their texts what is not shown of the message.
        """
        if not headers:  # it is not traced
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
    ) -> Headers:
        """What outputs of a message that is not traced carry, so that nobody further on starts a trace for them."""
        kept: Headers = []
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
        """The same as lines of a header block; quick for what is usual: a `traceparent` alone, or no headers."""
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
        """What makes the contexts of attempts that are not traced; None where nothing would read them."""
        if self.tells_messages or PROPAGATE in sys.modules:
            if (found := self._passings.get(function)) is None:
                found = Passings(self._source.propagation, self.unsampled_headers, function)
                self._passings[function] = found
            return found
        return None

    def takeover(
        self, function: str, shard: int, instances: tuple[str, str], left: int, start_ns: int
    ) -> None:
        """A shard works now that was claimed at `start_ns`: by which instance, after which; `left` messages were unsettled."""
        shardspans.takeover(self._source, function, shard, instances, left, start_ns)

    def park_span(
        self, function: str, subject: str, header: bytes | None, place: tuple[str, int, int]
    ) -> SentSpan | None:
        """A message that is parked; None where it is not traced. `place` is its stream, its sequence, and when it was stored."""
        return shardspans.parked(self._source, function, subject, header, place)

    def publish_span(
        self, subject: str, template: str = "", *, headers: Iterable[tuple[str, str]] = ()
    ) -> AbstractContextManager[PublishSpan]:
        """A message sent from outside a function: in the trace of `headers`, else the current one, else a new one."""
        return publishing.publish(self._source, subject, template, headers).ending()

    def asking(
        self, asker: Asker, subject: bytes, pattern: str, instance: str, number: int
    ) -> tuple[TrySpan | None, bytes]:
        """A try to have a request answered: its span where it is traced, and header lines; see `telemetry/tryspan.py`."""
        return tryspan.ask(self._source, asker, subject, pattern, instance, number)

    def redrive_span(
        self, subject: str, headers: Iterable[tuple[str, str]]
    ) -> AbstractContextManager[PublishSpan]:
        """A dead letter sent back to its function, in a new trace with a link to the one it died in.

        `headers` are the dead letter's; those of the span are to be sent in their place, whole.
        """
        return publishing.redrive(self._source, subject, headers).ending()

    def hops(self) -> Callable[[Hop], None]:
        """What queues the span of a message's way through one server."""
        services = self._source.services
        if services is None:
            return lambda _: None
        from runner.telemetry.hops import Hops  # noqa: PLC0415  the SDK costs 150 ms and 20 MB

        return Hops(services).put

    def flush(self, timeout: float = 3.0) -> bool:
        """Send what is queued; blocks for `timeout` seconds at most; False when spans may not have arrived."""
        return self._source.services is None or self._source.services.export.flush(timeout)

    def shutdown(self, timeout: float = 3.0) -> bool:
        """Send what is queued and end; blocks for `timeout` seconds at most; False when spans were lost."""
        return self._source.services is None or self._source.services.export.shutdown(timeout)
