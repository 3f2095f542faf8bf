"""The ack subject of a delivery: the reply subject that the server gives it.

v1: `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<timestamp>.<pending>`
v2: the same with `<domain>.<account hash>` before the stream, and sometimes a random token at the end.
"""

from __future__ import annotations

from msgspec import Struct


class AckSubject(Struct, frozen=True, gc=False):
    """A delivery's metadata."""

    stream: str
    consumer: str
    delivered: int
    """Deliveries so far, this one included."""
    stream_sequence: int
    consumer_sequence: int
    timestamp_ns: int
    """When the stream stored the message, in nanoseconds of Unix time."""
    pending: int
    """Messages that the consumer has not delivered yet."""


def consumer(reply: bytes) -> bytes:
    """Read `<stream>.<consumer>` from an ack subject; empty when the reply is not an ack subject."""
    tokens = reply.split(b".")
    count = len(tokens)
    if count not in {9, 11, 12}:
        return b""
    first = 2 if count == 9 else 4
    return b"%b.%b" % (tokens[first], tokens[first + 1])


def outlives(reply: bytes, verb: bytes) -> bool:
    """Tell whether an answer still counts on another connection: one that says that a message is done, or given up.

    Any other answer (try again, still working) is about this delivery, and the message may have been delivered to another
    instance since. (`jetstream/withheld.py` has the exception: a retry that is decided during a short loss.) No answer for a shard outlives its connection, because another instance may own the shard by then.
    """
    return verb.startswith((b"+ACK", b"+TERM")) and reply.startswith(b"$JS.ACK.")


def parse(reply: bytes | str) -> AckSubject:
    """Read an ack subject; ValueError when the reply is not an ack subject."""
    # Decoding all bytes at once is cheaper than token by token, and UnicodeDecodeError is a ValueError.
    text = reply.decode() if isinstance(reply, bytes) else reply
    tokens = text.split(".")
    count = len(tokens)
    first = 2 if count == 9 else 4
    if count not in {9, 11, 12} or not text.startswith("$JS.ACK."):
        raise ValueError(f"{text!r} is not an ack subject")
    try:
        return AckSubject(
            tokens[first],
            tokens[first + 1],
            int(tokens[first + 2]),
            int(tokens[first + 3]),
            int(tokens[first + 4]),
            int(tokens[first + 5]),
            int(tokens[first + 6]),
        )
    except ValueError:
        raise ValueError(f"{text!r} is not an ack subject") from None
