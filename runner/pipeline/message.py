"""A delivery, read on demand: where its message first came from, and where this delivery came from."""

from __future__ import annotations

from msgspec import Struct

from runner.core import acksubject, header, identity, origin, traceparent
from runner.core.origin import Origin
from runner.jetstream.delivery import Delivery

MSGPACK = b"application/msgpack"
SENT_BACK = (b"$JETRUNNER.again.", b"parked.")
"""Prefixes of the subjects on which messages are sent back to their function."""


class Incoming(Struct, frozen=True):
    """A delivery with its place read from its reply subject, or from its origin headers when it was sent back."""

    delivery: Delivery
    origin: Origin
    """The message as its function sees it."""
    stream: str
    sequence: int
    """Sequence in `stream`: the place that this delivery itself came from."""
    stored_ns: int
    """When that message was stored, in nanoseconds of Unix time."""
    sent_back: bool

    @property
    def id(self) -> str:
        """`STREAM:SEQUENCE`, as its function sees it."""
        return identity.message_id(self.origin.stream, self.origin.sequence)

    @property
    def msgpack(self) -> bool:
        """Whether the headers say that the body is MessagePack."""
        return is_msgpack(self.delivery.header)


def is_msgpack(block: bytes | None) -> bool:
    """Whether headers say that the body is MessagePack."""
    kind = header.get(block, b"Content-Type") if block is not None else None
    return kind is not None and kind.split(b";")[0].strip().lower() == MSGPACK


def traced_in(delivery: Delivery) -> bytes | None:
    """The headers with the trace of an attempt. An event whose time is over has the headers of its first part."""
    joined = delivery.joined
    if joined is not None and traceparent.sent_in(delivery.header) is None:
        return joined.header
    return delivery.header


def read(delivery: Delivery) -> Incoming:
    """Read a delivery. Never raises: an incomplete origin counts as none."""
    parts = delivery.reply.split(b".")
    if len(parts) == 9:
        stream, stored = parts[2].decode(), int(parts[7])
    else:
        parsed = acksubject.parse(delivery.reply)
        stream, stored = parsed.stream, parsed.timestamp_ns
    found, sequence = None, delivery.sequence
    if delivery.header is not None and delivery.subject.startswith(SENT_BACK):
        found = origin.read(header.parse(delivery.header))
        if sequence < 0:  # a number in its lane, not a sequence
            sequence = int(parts[5])
    place = found or Origin(stream, sequence, stored, delivery.subject.decode(errors="surrogateescape"))
    return Incoming(delivery, place, stream, sequence, stored, found is not None)
