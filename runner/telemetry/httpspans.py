"""The spans of HTTP requests: one each, with the span of the function, or of the request over NATS, below it."""

from __future__ import annotations

from random import getrandbits
from time import time_ns

from opentelemetry.trace import SpanKind

from runner.core import header as headers_of
from runner.core import otlp, traceparent
from runner.telemetry import failure
from runner.telemetry.attempt import AttemptSpan, Common
from runner.telemetry.ownspan import SAMPLED, OwnSpan
from runner.telemetry.parent import NO_PARENT, parent_of
from runner.telemetry.source import SpanSource

SERVICE = "gateway"
MOST_SHAPES = 1_000
"""Most encoded pairs of route and method that are kept."""


class HttpSpan(AttemptSpan):
    """The span of one HTTP request; `end` is called once, when it is answered."""

    @property
    def lines(self) -> bytes:
        """The header lines that carry the trace on."""
        return "".join(f"{name}: {value}\r\n" for name, value in self.inject()).encode(
            "utf-8", "surrogateescape"
        )

    def end(self, status: int, why: str = "") -> None:
        """End the span with the answer's status; from 500 on, `why` is the reason in the log."""
        self._span.note("http.response.status_code", status)
        if status >= 500:
            self._span.note("error.type", str(status))
            self._span.failed(why)
        self._span.finish()


class HttpSpans:
    """Starts the spans of HTTP requests."""

    def __init__(self, source: SpanSource) -> None:
        self._traces = source.services is not None
        self._of = Common(source, SERVICE, None)
        self._lane = source.lane(SERVICE) if source.propagation.usual else None
        self._shapes: dict[tuple[str, str], bytes] = {}

    def begin(self, block: bytes | None, method: str, template: str, path: bytes) -> HttpSpan | None:
        """Start the span of a request; None if it is not traced. `block` holds its trace headers."""
        if not self._traces or not self._of.source.gate.admit(block):
            return None
        return self._quickly(block, method, template, path) or self._start(block, method, template, path)

    def untraced(self, block: bytes | None) -> bytes:
        """Header lines for a request that is not traced: they keep receivers from starting a trace for it."""
        if not self._traces:
            return b""
        line = traceparent.unsampled_line(block) if block is not None else None
        return line or b"traceparent: 00-%032x-%016x-00\r\n" % (getrandbits(128) | 1, getrandbits(64) | 1)

    def _quickly(self, block: bytes | None, method: str, template: str, path: bytes) -> HttpSpan | None:
        lane = self._lane
        if lane is None:
            return None
        if (above := parent_of(block) if block is not None else NO_PARENT) is None:
            return None
        trace_id, parent, flags, sampled = above
        if not trace_id:
            trace_id = (getrandbits(128) or 1).to_bytes(16, "big")
        source = self._of.source
        if source.takes_all or source.takes(trace_id, sampled):
            flags |= SAMPLED
        span_id = (getrandbits(64) or 1).to_bytes(8, "big")
        parts = [
            self._shape(method, template),
            otlp.attribute("url.path", path.decode("ascii", "replace")),
        ]
        span = OwnSpan(lane, trace_id, span_id, parent, flags, time_ns(), parts)
        return HttpSpan(span, self._of, None, block)

    def _shape(self, method: str, template: str) -> bytes:
        shape = self._shapes.get((method, template))
        if shape is None:
            if len(self._shapes) >= MOST_SHAPES:
                self._shapes.clear()
            name = failure.clean(f"{method} {template}".rstrip())
            shape = otlp.kind(otlp.SERVER, name) + otlp.attributes(_attributes(method, template))
            self._shapes[method, template] = shape
        return shape

    def _start(self, block: bytes | None, method: str, template: str, path: bytes) -> HttpSpan:
        parent = self._of.source.propagation.extract(headers_of.pairs(block) if block else [])
        attributes = {**_attributes(method, template), "url.path": path.decode("ascii", "replace")}
        span = self._of.source.start(
            SERVICE, failure.clean(f"{method} {template}".rstrip()), SpanKind.SERVER, parent, attributes
        )
        return HttpSpan(span, self._of, parent, block)


def _attributes(method: str, template: str) -> dict[str, str | int | float]:
    return {"http.request.method": method, "http.route": failure.clean(template), "url.scheme": "http"}
