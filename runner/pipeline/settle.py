"""Settling: the one place where an outcome becomes an ack, a nak or a dead letter.

Rule 1: a dead letter is confirmed before its message is terminated.
Rule 2: if its key is to be parked, the mark is on record before the message is terminated, too: no message of the key overtakes it.
Rule 3: before a nak, the start record of a suspect is removed, because the message may be redelivered at once and would find it. In
        all other cases it is removed after the server's answer: until then the record shows what killed the process.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from random import random
from typing import assert_never

from msgspec import structs

from runner.bindings import Binding
from runner.core.header import is_marker
from runner.core.settlement import (
    Ack,
    Crashed,
    Dead,
    Expired,
    Failed,
    Nak,
    Outcome,
    Settlement,
    attempts_made,
    failure,
    settle,
)
from runner.errors import ServerError
from runner.jetstream.delivery import Delivery
from runner.jetstream.reply import stored_at
from runner.pipeline.deadletter import DeadLetterWriter, term
from runner.pipeline.lasterrors import LastErrors
from runner.pipeline.message import Incoming
from runner.pipeline.parks import Parks
from runner.pipeline.reporter import Ran, Reporter, ran
from runner.pipeline.start_records import StartRecords
from runner.pipeline.stats import Stats
from runner.runtime.blame import trace_of
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.settling")

REPEAT_SECONDS = 30.0
"""Delay before a message comes again whose dead letter could not be stored, or that could not be settled."""
WITHDRAW_SECONDS = 1.0


class Settling:
    """Settles the messages of one function."""

    def __init__(
        self, runtime: Runtime, binding: Binding, stats: Stats, suspects: StartRecords, attempts: Reporter
    ) -> None:
        self._binding = binding
        self._stats = stats
        self._suspects = suspects
        self._attempts = attempts
        self._burial = DeadLetterWriter(runtime, binding)
        self._last = LastErrors(runtime, binding.function) if binding.max_age is not None else None
        self._now = runtime.connection.clock.now
        self.ending: Callable[[Incoming, Settlement], Awaitable[None]] | None = None
        """Awaited before a message is settled, for functions that also record the end elsewhere. Raises ServerError."""

    def _left(self, incoming: Incoming) -> float:
        """Seconds until the message is too old for its function; negative once it is."""
        max_age = self._binding.max_age
        return math.inf if max_age is None else max_age - (self._now() - incoming.stored_ns / 1e9)

    def passed_over(self, incoming: Incoming) -> bool:
        """Whether a message without a body is the server's delete marker; then it is settled, and no handler runs."""
        delivery = incoming.delivery
        marker = is_marker(delivery.header)
        if marker:
            log.debug(
                "%s: %s is the server's marker of a deleted message", self._binding.function, incoming.id
            )
            delivery.source.settle(delivery, b"+ACK")
        return marker

    def aged(self, delivery: Delivery) -> bool:
        """Whether a message is too old to run."""
        max_age = self._binding.max_age
        return max_age is not None and self._now() - stored_at(delivery.reply) / 1e9 > max_age

    async def expired(self, incoming: Incoming) -> bool:
        """Whether the message is too old to run; then it is settled."""
        max_age = self._binding.max_age
        if max_age is None or (left := self._left(incoming)) >= 0:
            return False
        last = None
        if self._last is not None and incoming.delivery.attempt > 1:
            last = await self._last.of(incoming)
        await self.finish(incoming, Expired(max_age - left, max_age, last))
        return True

    async def finish(self, incoming: Incoming, outcome: Outcome) -> None:
        """Decide by the retry policy what follows, and do it. A settled message is left alone."""
        delivery, binding, stats = incoming.delivery, self._binding, self._stats
        if delivery.settled or delivery.finishing:
            return
        delivery.finishing = True
        ended = ran(delivery)  # `again` makes the delivery ready for its next attempt
        hide = self._attempts.hiding(incoming)  # of the delivery as it is now
        settlement = settle(outcome, delivery.attempt, binding.retry, random(), self._left(incoming))
        if self.ending is not None:
            await self.ending(incoming, settlement)
        self._time(incoming, ended, succeeded=isinstance(settlement, Ack))
        span = delivery.span
        if span is None and not isinstance(settlement, Ack):
            span = self._attempts.late(incoming)
        if isinstance(settlement, Ack):
            delivery.source.settle(delivery, b"+ACK")
            stats.acked += 1
            self._attempts.end(span, incoming, settlement, outcome, ended)
            await self._drop(incoming)
            self._forget(incoming)
            return
        stats.failed += 1
        match settlement:
            case Nak(delay):
                await self._drop(incoming)
                await self._note(incoming, outcome)
                self._attempts.keep(span, incoming, outcome, ended, hide, delay)
                await delivery.source.again(delivery, delay)
                stats.retried += 1
            case Dead():
                try:
                    attempts = attempts_made(outcome, ended.attempt)
                    await self._burial.store(incoming, settlement, attempts, span)
                except ServerError as error:
                    log.error(
                        "%s: %s cannot be stored as a dead letter: %s", binding.function, incoming.id, error
                    )
                    settlement = Nak(REPEAT_SECONDS)
                    if not isinstance(outcome, Crashed):
                        await self._drop(incoming)
                    await delivery.source.again(delivery, REPEAT_SECONDS)
                    stats.retried += 1
                else:
                    source = delivery.source
                    if settlement.reason != "expired" and isinstance(source, Parks):
                        await source.park(incoming)
                        stats.parked += 1
                    source.settle(delivery, term(settlement, hide))
                    stats.dead[settlement.reason] = stats.dead.get(settlement.reason, 0) + 1
                    await self._drop(incoming)
                    self._forget(incoming)
            case _:
                assert_never(settlement)
        self._attempts.end(span, incoming, settlement, outcome, ended, hide)

    def _time(self, incoming: Incoming, ended: Ran, *, succeeded: bool) -> None:
        """Count how long a message waited for its first attempt, and, if it has succeeded, how long it took until now."""
        delivery, stats = incoming.delivery, self._stats
        if (delivery.deliveries or delivery.attempt) > 1:
            stats.redelivered += 1
        elif ended.seconds and not incoming.sent_back:
            stats.waited(incoming.stored_ns, delivery.started)
        if succeeded and not incoming.sent_back:
            stats.succeeded(incoming.stored_ns)

    async def _drop(self, incoming: Incoming) -> None:
        if incoming.delivery.recorded:
            await self._suspects.drop(incoming)

    async def _note(self, incoming: Incoming, outcome: Outcome) -> None:
        """Keep the message's error: the message may be too old when its next attempt is due."""
        if self._last is not None and (last := failure(outcome)) is not None:
            error = outcome.error if isinstance(outcome, Failed) else None
            last = structs.replace(last, traceback=trace_of(error))
            await self._last.note(incoming, last, self._left(incoming))

    def _forget(self, incoming: Incoming) -> None:
        if self._last is not None and incoming.delivery.attempt > 1:
            self._last.forget(incoming)

    async def give_back(self, incoming: Incoming) -> None:
        """Give back a message that has not started, or was cancelled. Deaths of other processes stay on record."""
        await self._suspects.withdraw(incoming, WITHDRAW_SECONDS)
        incoming.delivery.source.give_back(incoming.delivery)
