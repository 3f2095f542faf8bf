"""Acks of deliveries: which of them may be written, now or on another connection.

Rule 1: an answer that a message is done, or given up, stays true. Any other answer is about one delivery. While there was no
        connection, the message may have been delivered to another instance, and such an answer would let it run in both. Only a
        retry that is decided during a loss of less than 0.5 s is still asked for (`withheld.py`).
Rule 2: no answer of a shard outlives its connection, and none is written while the shard may belong to another instance, because
        that instance counts what is unsettled at the server. Messages that were settled here are acknowledged again, once the shard
        is known to be ours. The shard is told which acks were not written (`unsaid`), because its lease may simply go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from runner.core import acksubject

SETTLED = (b"+ACK", b"+TERM")


class Owning(Protocol):
    """Knows whether the shards of this process are its own."""

    def lease_valid(self, now: float) -> bool:
        """Whether the shards are ours, as far as is known; `now` is by the monotonic clock."""


class Losing(Protocol):
    """An object that is told of a lost connection."""

    def lost(self) -> None:
        """Note that the server may not have heard the last writes."""


class Acks:
    """The acks of one connection."""

    def __init__(self) -> None:
        self.owning: Owning | None = None
        """Knows whether the shards are ours; None while this process has no shards: then nothing is checked before a write."""
        self._shards: dict[bytes, Callable[[], None]] = {}

    def order(self, stream: str, durable: str, owning: Owning, unsaid: Callable[[], None]) -> None:
        """Write acks of this durable, a shard's, only while we own the shard.

        `unsaid` is called when an ack that settles a message was not written for that reason.
        """
        self._shards[f"{stream}.{durable}".encode()] = unsaid
        self.owning = owning

    def outlives(self, reply: bytes, verb: bytes) -> bool:
        """Whether an answer is still true on the next connection."""
        return acksubject.outlives(reply, verb) and acksubject.consumer(reply) not in self._shards

    def kept(self, frames: list[bytes]) -> tuple[list[bytes], bool]:
        """The frames that stay true, and whether a frame that is no ack was left out."""
        split = [(frame, *parts(frame)) for frame in frames]
        found = [frame for frame, reply, verb in split if reply and self.outlives(reply, verb)]
        return found, not all(reply for _, reply, _ in split)

    def silenced(self) -> bool:
        """Whether acks of shards must not be written now."""
        return self.owning is not None and not self.owning.lease_valid(time.monotonic())

    def spoken(self, frames: list[bytes]) -> list[bytes]:
        """The frames that may be written while acks of shards may not."""
        others: list[bytes] = []
        for frame in frames:
            reply, verb = parts(frame)
            if not self.unsaid(reply, verb):
                others.append(frame)
        return others

    def unsaid(self, reply: bytes, verb: bytes) -> bool:
        """Whether an ack belongs to a shard, and so is not written now; the shard is told."""
        told = self._shards.get(acksubject.consumer(reply))
        if told is not None and verb.startswith(SETTLED):
            told()
        return told is not None


def parts(frame: bytes) -> tuple[bytes, bytes]:
    """Subject and body of an ack's frame, which has no reply and no headers; both empty for any other frame."""
    line, _, rest = frame.partition(b"\r\n")
    words = line.split(b" ")
    if len(words) != 3 or words[0] != b"PUB" or not words[1].startswith(b"$JS.ACK."):
        return b"", b""
    return words[1], rest[:-2]


def withdrawn(frames: list[bytes], consumer: bytes) -> tuple[list[bytes], list[bytes]]:
    """The frames that are no acks of this consumer, and the replies of those that are."""
    others: list[bytes] = []
    replies: list[bytes] = []
    for frame in frames:
        reply, _ = parts(frame)
        if acksubject.consumer(reply) == consumer:
            replies.append(reply)
        else:
            others.append(frame)
    return others, replies
