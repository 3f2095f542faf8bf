"""What the reply of a delivery says of its message, read when somebody asks."""

from __future__ import annotations

from runner.core import acksubject
from runner.core.history import Identity


def stored_at(reply: bytes) -> int:
    """When the message was stored, in nanoseconds of Unix time."""
    tokens = reply.split(b".")
    return int(tokens[7]) if len(tokens) == 9 else acksubject.parse(reply).timestamp_ns


def stream_sequence(reply: bytes) -> int:
    """The number of the message in its stream."""
    tokens = reply.split(b".")
    return int(tokens[5]) if len(tokens) == 9 else acksubject.parse(reply).stream_sequence


def consumer_sequence(reply: bytes) -> int:
    """The place of the delivery among all of its consumer's."""
    tokens = reply.split(b".")
    return int(tokens[6]) if len(tokens) == 9 else acksubject.parse(reply).consumer_sequence


def identity(reply: bytes, created: str = "") -> Identity:
    """The message of a stream that was made at that time."""
    return Identity(created, stream_sequence(reply), stored_at(reply))


def is_lost(reply: bytes, first: int, known: Identity) -> bool:
    """Whether the stream has lost the message: it lost those from `first` on, of which `known` was the newest.

    What was stored after that is of now.
    """
    message = identity(reply)
    return message.sequence >= first and not 0 < known.stored_ns < message.stored_ns
