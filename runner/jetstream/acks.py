"""Acks of deliveries: which of them may be written, now or on another connection.

Rule 1: that a message is done, or given up, stays true. Every other answer speaks of one delivery, and while there was no
        connection the message may have been delivered to another instance: it would run in both.
Rule 2: of a shard nothing outlives its connection, and nothing is written while the shard may be another's: that counts
        what the server holds unsettled. What was settled here is acknowledged again, once it is known to be ours: the
        shard is told what was not written (`unsaid`), for its lease may go on as if nothing had been.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from runner.core import acksubject

SETTLED = (b"+ACK", b"+TERM")


class Owning(Protocol):
    """Who knows whether the shards of this process are its own."""

    def lease_valid(self, now: float) -> bool:
        """Whether they are, as far as is known, by the monotonic clock."""


class Losing(Protocol):
    """What is told of a lost connection."""

    def lost(self) -> None:
        """The server may not have heard what was written last."""


class Acks:
    """The answers of one connection."""

    def __init__(self) -> None:
        self.owning: Owning | None = None
        """None while there are no shards here: then nothing is looked at before a write."""
        self._shards: dict[bytes, Callable[[], None]] = {}

    def order(self, stream: str, durable: str, owning: Owning, unsaid: Callable[[], None]) -> None:
        """Acks of this durable, a shard's, count only as long as we own it.

        `unsaid` is called when one that settles a message was not written for that.
        """
        self._shards[f"{stream}.{durable}".encode()] = unsaid
        self.owning = owning

    def outlives(self, reply: bytes, verb: bytes) -> bool:
        """Whether an answer is as true on the next connection."""
        return acksubject.outlives(reply, verb) and acksubject.consumer(reply) not in self._shards

    def kept(self, frames: list[bytes]) -> tuple[list[bytes], bool]:
        """Those that are, and whether one was left out that is no answer at all."""
        split = [(frame, *parts(frame)) for frame in frames]
        found = [frame for frame, reply, verb in split if reply and self.outlives(reply, verb)]
        return found, not all(reply for _, reply, _ in split)

    def silenced(self) -> bool:
        """Whether the shards' answers must not be written now."""
        return self.owning is not None and not self.owning.lease_valid(time.monotonic())

    def spoken(self, frames: list[bytes]) -> list[bytes]:
        """Those that may be written though the shards are silenced."""
        others: list[bytes] = []
        for frame in frames:
            reply, verb = parts(frame)
            if not self.unsaid(reply, verb):
                others.append(frame)
        return others

    def unsaid(self, reply: bytes, verb: bytes) -> bool:
        """Whether an answer is a shard's, and so not written now; the shard is told."""
        told = self._shards.get(acksubject.consumer(reply))
        if told is not None and verb.startswith(SETTLED):
            told()
        return told is not None


def parts(frame: bytes) -> tuple[bytes, bytes]:
    """Subject and body of an answer's frame, which has neither a reply nor headers; empty ones of any other."""
    line, _, rest = frame.partition(b"\r\n")
    words = line.split(b" ")
    if len(words) != 3 or words[0] != b"PUB" or not words[1].startswith(b"$JS.ACK."):
        return b"", b""
    return words[1], rest[:-2]


def withdrawn(frames: list[bytes], consumer: bytes) -> tuple[list[bytes], list[bytes]]:
    """The frames that answer no delivery of this consumer, and the replies of those that do."""
    others: list[bytes] = []
    replies: list[bytes] = []
    for frame in frames:
        reply, _ = parts(frame)
        if acksubject.consumer(reply) == consumer:
            replies.append(reply)
        else:
            others.append(frame)
    return others, replies
