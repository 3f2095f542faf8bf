"""Atomic batches: several messages for one stream, stored together or not at all.

Rule 1: a batch has a new id each time: an id from the input would collide with that of a dead run for 10 s. BATCH_DUPLICATE then
        proves that an earlier run's set is stored.
Rule 2: a caller that names the stream it means is told if another stream refuses (`Elsewhere`), and if the stream allows no
        atomic batches (BATCH_DISABLED).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from runner.core import header as headers
from runner.errors import Elsewhere, ServerError
from runner.jetstream import codes
from runner.jetstream.inbox import Inbox, ask
from runner.jetstream.publisher import (
    CONFIRM_SECONDS,
    Doubt,
    Outgoing,
    PubAck,
    Publisher,
    read_ack,
    retry_until,
)

LIMIT = 1000
"""Most messages in one atomic batch: the server's own limit."""
IN_FLIGHT = 16


class Batches:
    """Stores messages together, over one connection."""

    def __init__(self, wire: Any, inbox: Inbox, publisher: Publisher) -> None:
        self._wire = wire
        self._inbox = inbox
        self._publisher = publisher
        self._slots = anyio.Semaphore(IN_FLIGHT)

    async def store(
        self, messages: Sequence[Outgoing], patience: float, stream: str = "", doubt: Doubt | None = None
    ) -> PubAck:
        """Store up to 1,000 messages, each with its Msg-Id, in one stream: all of them or none. `doubt` as in `retry_until`."""
        if len(messages) == 1:
            return await self._publisher.publish_surely(messages[0], patience, stream, doubt)
        attempt = (
            limit_incomplete(lambda: self._batch(messages, stream))
            if stream
            else lambda: self._batch(messages, "")
        )
        return await retry_until(attempt, patience, f"a batch to {messages[0].subject}", doubt)

    async def _batch(self, messages: Sequence[Outgoing], stream: str) -> PubAck:
        if len(messages) > LIMIT:
            raise ValueError(f"{len(messages)} messages are over the {LIMIT} of one batch")
        batch = secrets.token_hex(16)
        blocks = []
        for index, message in enumerate(messages, 1):
            pairs = [*message.headers, ("Nats-Batch-Id", batch), ("Nats-Batch-Sequence", str(index))]
            if index == len(messages):
                pairs.append(("Nats-Batch-Commit", "1"))
            block = headers.encode(pairs)
            self._publisher.check_size(message.subject, len(message.body) + len(block))
            self._wire.limit.require(message.subject.encode())
            blocks.append((message, block))
        async with self._slots:
            first, block = blocks[0]
            await self._ask(first, block, stream)  # an empty answer: the batch is open
            for message, block in blocks[1:-1]:
                self._wire.publish(message.subject.encode(), message.body, b"", block)
            last, block = blocks[-1]
            answer = await self._ask(last, block, stream)
        try:
            return read_ack(answer, stream)
        except ServerError as error:
            if error.code == codes.BATCH_DUPLICATE:
                return PubAck(duplicate=True)
            raise

    async def _ask(self, message: Outgoing, block: bytes, stream: str) -> bytes:
        subject = message.subject.encode()
        _, answer = await ask(self._inbox, self._wire, subject, message.body, CONFIRM_SECONDS, block)
        if answer and b'"error"' in answer:
            try:
                read_ack(answer, stream)
            except ServerError as error:
                if error.code != codes.BATCH_DUPLICATE:
                    raise
        return answer


def limit_incomplete(
    attempt: Callable[[], Awaitable[PubAck]], tries: int = 3
) -> Callable[[], Awaitable[PubAck]]:
    """Limit the tries of a batch that stays incomplete: then some subjects may be another stream's by now (`Elsewhere`)."""
    left = tries

    async def once() -> PubAck:
        nonlocal left
        try:
            return await attempt()
        except ServerError as error:
            left -= error.code == codes.BATCH_INCOMPLETE
            if left <= 0 and not isinstance(error, Elsewhere):
                raise Elsewhere(str(error), code=codes.BATCH_INCOMPLETE) from None
            raise

    return once
