"""Atomic batches: several messages for one stream, stored together or not at all.

Rule 1: a batch has a new id each time: an id from the input would collide with that of a dead run for 10 s.
Rule 2: BATCH_DUPLICATE proves that one message stands, not that all do. A stream with one replica stores a batch message by message,
        and ends without an answer where the account is full. So each message is then published by itself, in their order.
Rule 3: only the first message and the last are answered. If the server has not taken one between them, it says no more than that the
        batch is incomplete. The next try asks for an answer to each message, and the first error that tells why is raised.
Rule 4: a caller that names the stream it means is told if another stream refuses (`Elsewhere`), and if the stream allows no
        atomic batches (BATCH_DISABLED).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from runner.core import header as headers
from runner.errors import Elsewhere, NoStream, ServerError
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
        """Store up to 1,000 messages, each with its Msg-Id, in one stream: all of them or none. `doubt` as in `retry_until`.

        If one of them stands already, the others are stored one by one.
        """
        if len(messages) == 1:
            return await self._publisher.publish_surely(messages[0], patience, stream, doubt)
        each = False

        async def attempt() -> PubAck:
            nonlocal each
            try:
                return await self._batch(messages, stream, each=each)
            except ServerError as error:
                each = each or error.code == codes.BATCH_INCOMPLETE
                raise

        limited = limit_incomplete(attempt) if stream else attempt
        try:
            return await retry_until(limited, patience, f"a batch to {messages[0].subject}", doubt)
        except ServerError as error:
            if error.code != codes.BATCH_DUPLICATE or isinstance(error, Elsewhere):
                raise
        for message in messages:
            ack = await self._publisher.publish_surely(message, patience, stream, doubt)
        return ack

    async def _batch(self, messages: Sequence[Outgoing], stream: str, *, each: bool) -> PubAck:
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
            await self._ask(*blocks[0], stream)  # an empty answer: the batch is open
            if each:
                return await self._ask_each(blocks[1:], stream)
            for message, block in blocks[1:-1]:
                self._wire.publish(message.subject.encode(), message.body, b"", block)
            return read_ack(await self._ask(*blocks[-1], stream), stream)

    async def _ask_each(self, blocks: Sequence[tuple[Outgoing, bytes]], stream: str) -> PubAck:
        """Send the rest of a batch, and raise the first error that tells why it is not stored."""
        asked = [self._ask(message, block, stream) for message, block in blocks]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        last = answers[-1]
        if isinstance(last, bytes):
            return read_ack(last, stream)
        for answer in answers:
            if isinstance(answer, BaseException) and not (
                isinstance(answer, ServerError) and is_incomplete(answer)
            ):
                raise answer
        raise last

    async def _ask(self, message: Outgoing, block: bytes, stream: str) -> bytes:
        subject = message.subject.encode()
        _, answer = await ask(self._inbox, self._wire, subject, message.body, CONFIRM_SECONDS, block)
        if answer and b'"error"' in answer:
            read_ack(answer, stream)
        return answer


def is_incomplete(error: ServerError) -> bool:
    """Whether an error says only that a message of the batch has not reached the stream, not why."""
    if isinstance(error, Elsewhere):
        return False
    # A subject that no stream has by now: whoever asks has to look for its stream again.
    return error.code == codes.BATCH_INCOMPLETE or isinstance(error, NoStream)


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
