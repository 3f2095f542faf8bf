"""Facts of a message in the reply of its delivery, read when needed."""

from __future__ import annotations

from runner.core import acksubject
from runner.core.history import Identity


def stored_at(reply: bytes) -> int:
    """When the message was stored, in nanoseconds of Unix time."""
    tokens = reply.split(b".")
    return int(tokens[7]) if len(tokens) == 9 else acksubject.parse(reply).timestamp_ns


def stream_sequence(reply: bytes) -> int:
    """The stream sequence of the message."""
    tokens = reply.split(b".")
    return int(tokens[5]) if len(tokens) == 9 else acksubject.parse(reply).stream_sequence


def consumer_sequence(reply: bytes) -> int:
    """The consumer sequence of the delivery."""
    tokens = reply.split(b".")
    return int(tokens[6]) if len(tokens) == 9 else acksubject.parse(reply).consumer_sequence


def identity(reply: bytes, created: str = "") -> Identity:
    """The identity of the message; its stream was made at `created`."""
    return Identity(created, stream_sequence(reply), stored_at(reply))


def is_lost(reply: bytes, first: int, known: Identity) -> bool:
    """Whether the stream has lost the message: it lost messages from `first` on, and `known` was the newest of them.

    Messages that were stored after `known` belong to the present history.
    """
    message = identity(reply)
    return message.sequence >= first and not 0 < known.stored_ns < message.stored_ns
