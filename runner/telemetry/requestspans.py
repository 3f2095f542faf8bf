"""The spans of the requests that one function answers: the parts that are the same in all of them are encoded once."""

from __future__ import annotations

from random import getrandbits
from time import time_ns
from typing import Protocol

from opentelemetry.trace import SpanKind

from runner.core import header as headers_of
from runner.core import otlp
from runner.telemetry import failure
from runner.telemetry.attempt import AttemptSpan, Common, MakeHide
from runner.telemetry.functionspans import LONGEST, SUBJECT
from runner.telemetry.ownspan import SAMPLED, OwnSpan
from runner.telemetry.parent import NO_PARENT, parent_of
from runner.telemetry.source import Attributes, SpanSource

CODE = "jetrunner.code"


class Received(Protocol):
    """A request as it came."""

    subject: bytes
    header: bytes | None
    body: bytes


class RequestSpan(AttemptSpan):
    """The span of one request; exactly one of the `end_` methods is called, when the request is answered."""

    def end_answered(self, code: int) -> None:
        """End the span: the request succeeded, and was answered with this code."""
        self._span.note(CODE, code)
        self._span.finish()

    def end_refused(self, code: int, kind: str) -> None:
        """End the span: the request itself was wrong, which is not an error of the service. `kind` is the error's type."""
        self._span.note(CODE, code)
        self._span.note("error.type", kind)
        self._span.finish()

    def end_failed(
        self, code: int, error: BaseException | str, kind: str = "", hide: failure.Hide = str
    ) -> None:
        """End the span: the request failed, or took too long. If the error is a text, `kind` is its type."""
        self._span.note(CODE, code)
        failure.record(self._span, error, kind, hide)
        self._span.finish()


class RequestSpans:
    """Starts the span of each request to a function."""

    def __init__(self, source: SpanSource, function: str, template: str, hiding: MakeHide) -> None:
        self._of = Common(source, function, hiding)
        self._lane = source.lane(function) if source.propagation.usual else None
        self._same: Attributes = {
            "messaging.system": "nats",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.template": template,
            "faas.name": function,
            "faas.trigger": "other",
            **source.server,
        }
        self._shape = otlp.kind(otlp.SERVER, failure.clean(function)) + otlp.attributes(self._same)

    def begin(self, request: Received) -> RequestSpan:
        """Start the span of a request that the gate has admitted, from now; quickly for a usual request.

        A request is usual if it has no trace headers besides a `traceparent`.
        """
        return self._quickly(request) or self.start(request)

    def _quickly(self, request: Received) -> RequestSpan | None:
        lane, subject, header = self._lane, request.subject, request.header
        if lane is None or len(subject) > LONGEST or not subject.isascii():
            return None
        if (above := parent_of(header) if header is not None else NO_PARENT) is None:
            return None
        trace_id, parent, flags, sampled = above
        if not trace_id:
            trace_id = (getrandbits(128) or 1).to_bytes(16, "big")
        source = self._of.source
        if source.takes_all or source.takes(trace_id, sampled):
            flags |= SAMPLED
        parts = [
            self._shape, SUBJECT[len(subject)], subject,
            otlp.attribute("messaging.message.body.size", len(request.body)),
        ]  # fmt: skip
        span_id = (getrandbits(64) or 1).to_bytes(8, "big")
        span = OwnSpan(lane, trace_id, span_id, parent, flags, time_ns(), parts)
        return RequestSpan(span, self._of, None, header, request.body)

    def start(self, request: Received, start_ns: int | None = None) -> RequestSpan:
        """Start the span of any request, at `start_ns` or now."""
        headers = headers_of.pairs(request.header) if request.header else []
        parent = self._of.source.propagation.extract(headers)
        subject = request.subject.decode("utf-8", "surrogateescape")
        span = self._of.source.start(
            self._of.function,
            self._of.function,
            SpanKind.SERVER,
            parent,
            {
                **self._same,
                "messaging.destination.name": failure.clean(subject),
                "messaging.message.body.size": len(request.body),
            },
            start_ns=start_ns,
        )
        return RequestSpan(span, self._of, parent, request.header, request.body)
