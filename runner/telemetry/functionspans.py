"""The spans of one function's attempts: the parts that are the same in all of them are encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from random import getrandbits
from time import time_ns
from typing import Protocol

from opentelemetry.trace import SpanKind, get_current_span

from runner.core import header as headers_of
from runner.core import otlp, traceparent
from runner.telemetry import batchspan, failure
from runner.telemetry.attempt import AttemptSpan, Common, MakeHide, origin_of
from runner.telemetry.batchspan import BatchSpan
from runner.telemetry.ownspan import SAMPLED, OwnSpan
from runner.telemetry.parent import NO_PARENT, parent_of
from runner.telemetry.source import Attributes, SpanSource

LONGEST = 512
"""Longest subject or id, in bytes, that the quick way takes."""
SUBJECT = otlp.TextAttribute("messaging.destination.name", LONGEST).heads
_MESSAGE_ID = otlp.TextAttribute("messaging.message.id", LONGEST).heads
_SIZES = 4096
"""Most body sizes whose encoded attribute is kept."""


PARTITION = "messaging.destination.partition.id"


class TracedDelivery(Protocol):
    """A message as it was delivered."""

    reply: bytes
    sequence: int
    subject: bytes
    header: bytes | None
    body: bytes
    attempt: int


def shard_of(delivery: object) -> int | None:
    """The number of a message's shard; None for a function that keeps no order."""
    return getattr(getattr(delivery, "source", None), "number", None)


class FunctionSpans:
    """Starts the span of each attempt of a function."""

    def __init__(
        self,
        source: SpanSource,
        function: str,
        durable: str,
        template: str,
        attempts: int,
        hiding: MakeHide | None = None,
        *,
        ordered: bool = False,
    ) -> None:
        """`ordered`: the messages are in shards, and the source of each delivery has the shard's number."""
        self._ordered = ordered
        self._of = Common(source, function, hiding)
        self._lane = source.lane(function) if source.propagation.usual else None
        self._same: Attributes = {
            "messaging.system": "nats",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.template": template,
            "messaging.consumer.group.name": durable,
            "faas.name": function,
            "faas.trigger": "pubsub",
            "jetrunner.attempts": attempts,
            **source.server,
        }
        self._batch = {name: value for name, value in self._same.items() if name != "jetrunner.attempts"}
        self._shape = otlp.kind(otlp.CONSUMER, failure.clean(function)) + otlp.attributes(self._same)
        self._first = self._shape + otlp.attribute("jetrunner.attempt", 1)
        self._sizes: dict[int, bytes] = {}

    def begin(self, delivery: TracedDelivery) -> AttemptSpan | None:
        """Start the span of a usual message, quickly; None for any other message: then `start` has to.

        A message is usual if it comes directly from its stream, and has no trace headers besides a `traceparent`.
        """
        lane = self._lane
        reply, subject, header = delivery.reply.split(b"."), delivery.subject, delivery.header
        if lane is None or len(reply) != 9:
            return None
        message_id = b"%b:%d" % (reply[2], delivery.sequence)
        if len(subject) > LONGEST or len(message_id) > LONGEST or not (subject + message_id).isascii():
            return None
        if (above := parent_of(header) if header is not None else NO_PARENT) is None:
            return None
        trace_id, parent, flags, sampled = above
        if not trace_id:
            trace_id = traceparent.derived(b"%b.%b" % (message_id, reply[7]))
        source = self._of.source
        if source.takes_all or source.takes(trace_id, sampled):
            flags |= SAMPLED
        body, attempt = delivery.body, delivery.attempt
        parts = [
            self._first if attempt == 1 else self._shape + otlp.attribute("jetrunner.attempt", attempt),
            SUBJECT[len(subject)], subject, _MESSAGE_ID[len(message_id)], message_id,
            self._sizes.get(len(body)) or self._size(len(body)),
        ]  # fmt: skip
        if self._ordered and (shard := shard_of(delivery)) is not None:
            parts.append(otlp.attribute(PARTITION, str(shard)))
        span_id = (getrandbits(64) or 1).to_bytes(8, "big")
        span = OwnSpan(lane, trace_id, span_id, parent, flags, time_ns(), parts)
        return AttemptSpan(span, self._of, None, header, body, delivery)

    def batch(self, count: int, attempts: Sequence[AttemptSpan], hide: failure.Hide) -> BatchSpan:
        """Start the span of a call with `count` messages; `attempts` are the traced ones among their attempts."""
        return batchspan.start(self._of.source, self._of.function, self._batch, count, attempts, hide)

    def _size(self, body_size: int) -> bytes:
        if len(self._sizes) >= _SIZES:
            self._sizes.clear()
        size = self._sizes[body_size] = otlp.attribute("messaging.message.body.size", body_size)
        return size

    def start(
        self,
        subject: str,
        stream: str,
        sequence: int,
        timestamp_ns: int,
        attempt: int,
        header: bytes | None,
        body_size: int,
        start_ns: int | None = None,
        hide: failure.Hide | None = None,
        more: Attributes | None = None,
        delivery: object = None,
    ) -> AttemptSpan:
        """Start the span of any attempt, at `start_ns` or now."""
        headers = headers_of.pairs(header) if header else []
        parent = self._of.source.propagation.extract(headers)
        origin = origin_of(headers)
        root = ""
        if not get_current_span(parent).get_span_context().is_valid:
            # A message that was sent back has its old stream and sequence, but must not get the trace of its first run.
            place = stream if origin is None else f"{stream} {origin.trace_id}{origin.span_id}"
            root = traceparent.derived_trace_id(place, sequence, timestamp_ns)
        span = self._of.source.start(
            self._of.function,
            self._of.function,
            SpanKind.CONSUMER,
            parent,
            {
                **self._same,
                "messaging.destination.name": failure.clean(subject),
                "messaging.message.id": f"{stream}:{sequence}",
                "messaging.message.body.size": body_size,
                "jetrunner.attempt": attempt,
                **(more or {}),
            },
            origin=origin,
            root=root,
            start_ns=start_ns,
        )
        attempt_span = AttemptSpan(span, self._of, parent, delivery=delivery)
        attempt_span.hide_with(hide)
        return attempt_span
