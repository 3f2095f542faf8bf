"""Writes dead letters: each is stored and confirmed before its message is terminated."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from runner.bindings import Binding
from runner.core import deadletter, header, identity
from runner.core.deadletter import GivenUp
from runner.core.settlement import Dead
from runner.errors import NoStream, PermissionDenied, ServerError, TooLarge
from runner.jetstream import ownstreams
from runner.jetstream.place import Place
from runner.jetstream.publisher import PubAck, retry_until
from runner.pipeline.message import Incoming
from runner.runtime.blame import trace_of
from runner.runtime.runtime import Runtime

log = logging.getLogger("jetrunner.deadletters")

LARGEST_RECORD = 31 << 20
"""A stream on file storage takes less than 32 MiB in one message; this leaves room for the headers."""
CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class DeadLetterWriter:
    """Writes the dead letters of one function."""

    def __init__(self, runtime: Runtime, binding: Binding) -> None:
        self._runtime = runtime
        self._function = binding.function
        self._subject = identity.dead_subject(runtime.project, binding.function)

    async def store(self, incoming: Incoming, dead: Dead, attempts: int, span: Any) -> None:
        """Return when the dead letter is confirmed, however long that takes; a deleted stream is made again.

        Raises `ServerError` only for an error that waiting cannot mend: a missing permission.
        """
        delivery, origin = incoming.delivery, incoming.origin
        traceback = dead.traceback or trace_of(dead.error_object)
        why = GivenUp(attempts, dead.reason, dead.message, dead.error, traceback)
        facts = deadletter.facts(origin, datetime.now(UTC), self._runtime.project, self._function, why)
        original = header.pairs(delivery.header) if delivery.header is not None else []
        sent = span.dead_letter(self._subject) if span is not None else None
        if sent is not None:
            fields = {name.lower() for name, _ in sent.headers}
            original = [*(pair for pair in original if pair[0].lower() not in fields), *sent.headers]
        message_id = f"{incoming.stream}:{incoming.sequence}.{incoming.stored_ns}:{self._runtime.project}-{self._function}:dead"
        pairs = deadletter.build(facts, original)
        try:
            ack = await retry_until(
                lambda: self._store(pairs, delivery.body, message_id),
                math.inf,
                f"a dead letter of {self._function}",
            )
            if not ack.duplicate:
                stored = self._runtime.histories.of(incoming.stream).stored
                stored.note(Place(ack.stream, ack.seq, message_id))
        except ServerError as error:
            if sent is not None:
                sent.end(error=error)
            raise
        if sent is not None:
            sent.end(stream=ack.stream, sequence=ack.seq)

    async def _store(self, pairs: deadletter.Pairs, body: bytes, message_id: str) -> PubAck:
        """Store once, cut to the size that the server takes, or to the stream's limit if that refuses it."""
        connection = self._runtime.connection
        try:
            return await self._publish(pairs, body, message_id, connection.max_payload)
        except NoStream:
            await ownstreams.restore(connection, ownstreams.DEADLETTERS)
            return await self._publish(pairs, body, message_id, connection.max_payload)
        except TooLarge:
            limit = await self._limit()
            log.warning(
                "a dead letter of %s is cut to %d bytes, the most that the stream takes",
                self._function,
                limit,
            )
            return await self._publish(pairs, body, message_id, limit)

    async def _publish(self, pairs: deadletter.Pairs, body: bytes, message_id: str, room: int) -> PubAck:
        own = ("Nats-Msg-Id", message_id)
        pairs, body = deadletter.fit(pairs, body, room, len(own[0]) + len(own[1]) + len(": \r\n"))
        return await self._runtime.connection.publisher.publish(self._subject, body, [*pairs, own])

    async def _limit(self) -> int:
        """The most bytes of one message that both the stream and the server take."""
        connection = self._runtime.connection
        try:
            config = (await connection.api(f"STREAM.INFO.{ownstreams.DEADLETTERS}"))["config"]
        except PermissionDenied:
            return deadletter.LEAST_PAYLOAD
        most = min(connection.max_payload, LARGEST_RECORD)
        limit = int(config.get("max_msg_size") or -1)
        return min(limit, most) if limit > 0 else most


def term(dead: Dead, hide: Callable[[str], str]) -> bytes:
    """The ack verb that terminates a message. Its reason goes into the server's advisory, which others may read."""
    text = CONTROL.sub(" ", f"{dead.reason}: {hide(dead.message)}" if dead.message else dead.reason)
    return b"+TERM " + text[:200].encode("utf-8", "replace")
