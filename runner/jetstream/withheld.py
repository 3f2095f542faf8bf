"""What the server is told of settlements, or not yet: while a stream may be another, its numbers may be other messages'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runner.core.history import NOTHING, Identity
from runner.jetstream.acks import SETTLED
from runner.jetstream.reply import identity, is_lost


class Withheld:
    """The way to the server for the answers to one consumer's deliveries."""

    def __init__(self, wire: Any) -> None:
        self.ack: Callable[[bytes], None] = wire.ack
        """Acknowledge a delivery, by its reply."""
        self._wire = wire
        self._kept: list[bytes] | None = None

    def answer(self, reply: bytes, verb: bytes) -> None:
        """Any other answer. One that has the message delivered again is not kept: the server does that by itself."""
        if self._kept is None:
            self._wire.answer(reply, verb)
        elif verb.startswith(SETTLED):
            self._kept.append(reply)

    def begin(self, replies: Sequence[bytes] = ()) -> None:
        """Tell the server nothing from now on, nor that these are settled."""
        if self._kept is None:
            self._kept = []
            self.ack = self._kept.append
        self._kept.extend(replies)

    def newest(self) -> Identity:
        """Of what is kept back."""
        return max(map(identity, self._kept or ()), key=lambda each: each.sequence, default=NOTHING)

    def cut(self, first: int, known: Identity) -> None:
        """Forget what the stream has lost (`is_lost`)."""
        if self._kept is not None:
            self._kept[:] = [reply for reply in self._kept if not is_lost(reply, first, known)]

    def end(self) -> list[bytes]:
        """Tell the server everything from now on; what was kept back is returned."""
        kept, self._kept, self.ack = self._kept, None, self._wire.ack
        return kept or []
