"""Keeps answers back from the server: while a stream may be another, its sequences may name other messages.

Rule 1: acks, and answers that a message is given up, are kept until the stream was found to be the same.
Rule 2: naks are kept for 0.5 s, so that a retry has its own delay across a short loss of the connection. After that they are
        dropped: the ack wait of such a message may have passed, and another instance may have it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from runner.core.history import NOTHING, Identity
from runner.jetstream.acks import SETTLED
from runner.jetstream.reply import identity, is_lost

NAKS_SECONDS = 0.5
"""A pull answers for up to 9.5 s after it has extended an ack wait (`Pull._return`), and an ack wait lasts 10 s."""


class Withheld:
    """Sends, or keeps back, the answers to one consumer's deliveries."""

    def __init__(self, wire: Any) -> None:
        self.ack: Callable[[bytes], None] = wire.ack
        """Acknowledges a delivery, by its reply."""
        self._wire = wire
        self._kept: list[bytes] | None = None
        self._naks: list[tuple[bytes, bytes]] = []
        self._since = 0.0
        """When answers began to be kept back, by the monotonic clock."""

    def answer(self, reply: bytes, verb: bytes) -> None:
        """Send any other answer, or keep it: a `+TERM` like an ack, a `-NAK` for a short time."""
        if self._kept is None:
            self._wire.answer(reply, verb)
        elif verb.startswith(SETTLED):
            self._kept.append(reply)
        else:
            self._naks.append((reply, verb))

    def begin(self, replies: Sequence[bytes] = ()) -> None:
        """Keep answers back from now on, and also acks with these replies."""
        if self._kept is None:
            self._since = time.monotonic()
            self._kept = []
            self.ack = self._kept.append
        self._kept.extend(replies)

    def newest(self) -> Identity:
        """The newest message whose ack is kept back."""
        return max(map(identity, self._kept or ()), key=lambda each: each.sequence, default=NOTHING)

    def cut(self, first: int, known: Identity) -> None:
        """Forget answers to messages that the stream has lost (`is_lost`)."""
        if self._kept is not None:
            self._kept[:] = [reply for reply in self._kept if not is_lost(reply, first, known)]
        self._naks = [(reply, verb) for reply, verb in self._naks if not is_lost(reply, first, known)]

    def send(self) -> None:
        """Send what was kept back, and all answers at once from now on.

        Naks that are too old are dropped. The server delivers these messages again by itself, when their ack waits have passed.
        """
        brief = time.monotonic() - self._since < NAKS_SECONDS
        kept, naks = self._kept or (), self._naks if brief else ()
        self.drop()
        for reply in kept:
            self._wire.ack(reply)
        for reply, verb in naks:
            self._wire.answer(reply, verb)

    def drop(self) -> None:
        """Forget what was kept back, and send all answers at once from now on."""
        self._kept, self._naks, self.ack = None, [], self._wire.ack
