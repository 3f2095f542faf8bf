"""The pull of one shard: short-lived requests, and a window for what is held back."""

from __future__ import annotations

import asyncio
from typing import Protocol

from runner.core.ordering import Ordering
from runner.core.pull import request_size
from runner.core.sharding import original
from runner.jetstream.delivery import Delivery, Source
from runner.jetstream.pull import Pull, clock
from runner.pipeline.outcomes import Guard

HELD_LIMIT = 10_000
"""Messages of one shard that may be held back behind others of their key."""
PART = 100
"""So many more are asked for at once where less than that limit is here: not one after the other, as a long lane gets shorter."""
EXPIRES_SECONDS = 1.9
"""Shorter than what is left of a lease before it is renewed: a frozen owner has no pull left when its shards are taken."""
SILENCE_SECONDS = 2.4
"""A silent server is noticed after so long, while records of what it may not have heard still count (`settlement_log.py`). By
then two heartbeats and the end of a request are missing, or late by half a second: a server is, that has hundreds of shards."""
EXTEND_SECONDS = 20.0


class Sates(Protocol):
    """Where messages of a shard go whose turn it is."""

    @property
    def sated(self) -> bool:
        """Whether nothing more is to be asked for: enough waits there."""


class Window(Source, Protocol):
    """The shard that is pulled for, as its pull sees it."""

    ordering: Ordering
    generation: int
    number: int
    owned: bool

    @property
    def batches(self) -> Sates:
        """Where its messages go."""

    @property
    def answering(self) -> bool:
        """Whether nothing new is to be asked for."""

    def arrive_next(
        self, subject: bytes, reply: bytes, header: bytes | None, body: bytes, sequence: int, number: int
    ) -> bool:
        """Take a message's first delivery, of these stream and consumer sequences; False where it must go the long way."""

    def mistake(self, delivery: Delivery) -> None:
        """The stream has another message under the number of this one."""

    def doubt(self) -> None:
        """Something may have been lost: ask the server what it holds."""

    def withhold(self) -> None:
        """Keep back what is settled, until the server was asked."""

    def rest(self, now: float) -> None:
        """Called a few times a second."""


class ShardPull(Pull):
    """A pull whose window grows by what is held back, so that one blocked key does not stall its shard."""

    shard: Window
    guard: Guard
    holds = True
    newest_reply = b""
    """Of the newest delivery that is known to be the stream's."""
    _muted = False
    """Whether answers were not written since the shard might have been another's; it starts nothing until that is made up for."""
    _prefix = 0
    """Length of what stands before the original subject."""

    def belong(self, shard: Window, guard: Guard) -> None:
        """Pull for this shard, while the guard's lease lasts."""
        self.shard = shard
        self._take = shard.arrive_next
        self._first = self._ours + b"1."
        self._skip = len(self._first)
        self.guard = guard
        self.expires = EXPIRES_SECONDS
        self.heartbeat, self.patience = EXPIRES_SECONDS / 2, SILENCE_SECONDS
        self.extend_every = EXTEND_SECONDS
        self._wire.acks.order(self.stream, self.durable, guard, self._unsaid)
        self._turning = asyncio.Lock()
        """Held while it is opened or closed."""
        if shard.generation:
            self.original = original
            self._prefix = len(f"shard.{shard.generation}.{shard.number}.")

    def _top_up(self) -> None:
        """A process that was frozen past its lease must not take what is another's by now."""
        if (
            self._epoch == self._wire.epoch
            and not self._weight.size
            and not request_size(self.room(), len(self.unsettled), self._out)
        ):
            self.due = False  # most often: many shards are woken by each write
        elif self.guard.lease_valid(clock()) and not self.shard.answering:
            super()._top_up()
        else:
            self.due = False  # asked for again once the shard is confirmed
            self._weight.stand_back()

    def _arrived(self, subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> None:
        """The straight way of a new message; every other goes the long one."""
        if reply.startswith(self._first):
            parts = reply[self._skip :].split(b".", 2)
            if self._take(subject[self._prefix :], reply, header, body, int(parts[0]), int(parts[1])):
                self.newest_reply = reply
                self._last = header, body
                self._out -= 1
                if self._out <= 0 and not self.due:
                    self._out = 0
                    self.wake()
                return
        super()._arrived(subject, reply, header, body)

    def _other(self, known: Delivery) -> bool:
        """It comes again when more is known."""
        self.shard.mistake(known)
        return True

    def _interrupted(self) -> None:
        """What was settled may be unsettled at the server: an instance that took over now would run it again."""
        if self.shard.owned:
            self.shard.doubt()

    def _unsaid(self) -> None:
        """A settlement was not told to the server, which may not know of it for long: no record counts for ever."""
        shard = self.shard
        if shard.owned and not self._muted:
            self._muted = True
            shard.ordering.hold()
            shard.withhold()  # what is settled from now on is kept back, and told with the rest

    def watch(self, now: float) -> None:
        """Called a few times a second."""
        if self._muted and self.guard.lease_valid(now):
            self._muted = False
            self._interrupted()
        super().watch(now)
        self.shard.rest(now)

    async def turn(self) -> None:
        """It is open while the shard is owned."""
        async with self._turning:
            if self.shard.owned != self.is_open:
                await (self.open if self.shard.owned else self.close)()

    def room(self) -> int:
        """How many messages may be here; what is settled, and not on record yet, counts towards the most."""
        ordering = self.shard.ordering
        if self.shard.batches.sated:
            return len(self.unsettled)
        room, most = self.limit + ordering.holding, HELD_LIMIT - ordering.uncommitted
        if room <= most:
            return room
        return most + PART if len(self.unsettled) + self._out < most else 0

    @property
    def holding(self) -> int:
        """Messages here behind others of their key; `spill.py` has a bound of its own for them."""
        return self.shard.ordering.holding
