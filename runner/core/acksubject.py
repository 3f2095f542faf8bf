"""The ack subject of a delivery: what the server writes into its reply.

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
    """Messages the consumer has yet to deliver."""


def consumer(reply: bytes) -> bytes:
    """Read `<stream>.<consumer>` of an ack subject; empty when it is none."""
    tokens = reply.split(b".")
    count = len(tokens)
    if count not in {9, 11, 12}:
        return b""
    first = 2 if count == 9 else 4
    return b"%b.%b" % (tokens[first], tokens[first + 1])


def outlives(reply: bytes, verb: bytes) -> bool:
    """Tell whether an answer is as true on another connection: that a message is done, or given up.

    Any other (come again, still at work) speaks of this delivery, and the message may have been delivered to another
    since. Of a shard none outlives its connection: the shard may be another's.
    """
    return verb.startswith((b"+ACK", b"+TERM")) and reply.startswith(b"$JS.ACK.")


def parse(reply: bytes | str) -> AckSubject:
    """Read an ack subject; ValueError when it is none."""
    # Bytes are decoded whole: cheaper than decoding tokens, and UnicodeDecodeError is a ValueError.
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
