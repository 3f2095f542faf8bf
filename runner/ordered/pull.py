"""The pull of one shard: its requests are short-lived, and its room grows with the messages that are held back."""

from __future__ import annotations

import asyncio
from typing import Protocol

from runner.core.ordering import Ordering
from runner.core.pull import request_size
from runner.core.sharding import original
from runner.jetstream.delivery import Delivery, Source
from runner.jetstream.pull import Pull, clock
from runner.pipeline.outcomes import StartGuard

HELD_LIMIT = 10_000
"""Messages of one shard that may be held back behind others of their key."""
MOST_HELD = 10
"""So many times `HELD_LIMIT` may be here while a barrier stands."""
PART = 100
"""Once fewer than `HELD_LIMIT` are here, so many are asked for at once, and not one by one while a long lane gets shorter."""
EXPIRES_SECONDS = 1.9
"""Lifetime of a request, shorter than the rest of a lease before its renewal: a frozen owner has no request left at the server when
its shards are taken."""
SILENCE_SECONDS = 2.4
"""A server counts as silent after this time. Records of settlements that it may not have received still count then
(`settlement_log.py`). By then two heartbeats and the end of a request are missing. They may be 0.5 s late, as those of a server
with hundreds of shards are."""
EXTEND_SECONDS = 20.0


class Sates(Protocol):
    """The queue for messages of a shard whose turn it is."""

    @property
    def sated(self) -> bool:
        """Whether to ask for no more messages, because enough wait there."""


class Window(Source, Protocol):
    """A shard as its pull sees it."""

    ordering: Ordering
    generation: int
    number: int
    owned: bool

    @property
    def batches(self) -> Sates:
        """The queue for its messages whose turn it is."""

    @property
    def answering(self) -> bool:
        """Whether to ask for no new messages."""

    def arrive_next(
        self, subject: bytes, reply: bytes, header: bytes | None, body: bytes, sequence: int, number: int
    ) -> bool:
        """Take a message's first delivery, with these stream and consumer sequences; False if it must go the long way."""

    def mistake(self, delivery: Delivery) -> None:
        """The stream has another message with the sequence of this one."""

    def doubt(self) -> None:
        """Deliveries or acks may have been lost: ask the server which messages are unsettled."""

    def withhold(self) -> None:
        """Keep back all acks until the server was asked."""

    def rest(self, now: float) -> None:
        """Called a few times a second."""


class ShardPull(Pull):
    """A pull whose room grows with the messages held back, so that one blocked key does not stall its shard."""

    shard: Window
    guard: StartGuard
    holds = True
    newest_reply = b""
    """The reply of the newest delivery that is known to be the stream's."""
    _muted = False
    """Whether acks were not written because the shard might have been another's; it starts nothing until they are sent."""
    _prefix = 0
    """Length of the prefix before the original subject."""

    def belong(self, shard: Window, guard: StartGuard) -> None:
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
        """Held while the pull is opened or closed."""
        if shard.generation:
            self.original = original
            self._prefix = len(f"shard.{shard.generation}.{shard.number}.")

    def _top_up(self) -> None:
        """Ask for messages while the lease is valid: a process that was frozen past it must not take another's messages."""
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
        """Take a new message the short way; every other delivery goes the long way."""
        if reply.startswith(self._first):
            parts = reply[self._skip :].split(b".", 2)
            if self._take(subject[self._prefix :], reply, header, body, int(parts[0]), int(parts[1])):
                self.newest_reply = reply
                self._last = header, body
                self._out -= 1
                if self._out <= 0:
                    self._out = 0
                    self.wake()
                return
        super()._arrived(subject, reply, header, body)

    def _other(self, known: Delivery) -> bool:
        """Another message has come with the sequence of a known one: it comes again once the server was asked."""
        self.shard.mistake(known)
        return True

    def _interrupted(self) -> None:
        """Settled messages may be unsettled at the server: an instance that took over now would run them again."""
        if self.shard.owned:
            self.shard.doubt()

    def _unsaid(self) -> None:
        """An ack was not written, and may be missing at the server for long: start nothing, since no record counts for ever."""
        shard = self.shard
        if shard.owned and not self._muted:
            self._muted = True
            shard.ordering.hold()
            shard.withhold()  # acks are kept back from now on, and sent with the rest

    def watch(self, now: float) -> None:
        """Called a few times a second."""
        if self._muted and self.guard.lease_valid(now):
            self._muted = False
            self._interrupted()
        super().watch(now)
        self.shard.rest(now)

    async def turn(self) -> None:
        """Open the pull if the shard is owned, else close it."""
        async with self._turning:
            if self.shard.owned != self.is_open:
                await (self.open if self.shard.owned else self.close)()

    def room(self) -> int:
        """How many messages may be here; uncommitted ones count towards `HELD_LIMIT`, and those that a barrier awaits do not."""
        ordering = self.shard.ordering
        if self.shard.batches.sated:
            return len(self.unsettled)
        room, most = self.limit + ordering.holding, HELD_LIMIT - ordering.uncommitted
        if room <= most:
            return room
        if len(self.unsettled) + self._out < most:
            return most + PART
        # Behind the barrier nothing runs before all old messages are here. New ones may come in between.
        return min(len(self.unsettled) + ordering.awaited, MOST_HELD * HELD_LIMIT)

    @property
    def holding(self) -> int:
        """Messages here behind others of their key; `spill.py` limits their bytes."""
        return self.shard.ordering.holding
