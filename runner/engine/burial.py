"""Burial: the dead letter is stored and confirmed before its message is terminated."""

from __future__ import annotations

import logging
import math
import re
import traceback
from datetime import UTC, datetime
from typing import Any

from runner.bindings import Binding
from runner.core import deadletter, header, identity
from runner.core.settlement import Dead
from runner.engine.incoming import Incoming
from runner.engine.process import Process
from runner.errors import NoStream, ServerError
from runner.jetstream import ownstreams
from runner.jetstream.publisher import insist

log = logging.getLogger("jetrunner.deadletters")

CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class Burial:
    """The dead letters of one function."""

    def __init__(self, process: Process, binding: Binding) -> None:
        self._process = process
        self._function = binding.function
        self._subject = identity.dead_subject(process.project, binding.function)

    async def store(self, incoming: Incoming, dead: Dead, span: Any) -> None:
        """Returns when it is confirmed, however long that takes; a deleted stream is made again.

        Raises `ServerError` only for what waiting cannot mend, a missing permission.
        """
        delivery, origin = incoming.delivery, incoming.origin
        facts = deadletter.Facts(
            project=self._process.project,
            function=self._function,
            stream=origin.stream,
            sequence=origin.sequence,
            timestamp_ns=origin.timestamp_ns,
            subject=origin.subject,
            attempts=delivery.attempt,
            reason=dead.reason,
            error=dead.error,
            message=dead.message,
            traceback=trace_of(dead.error_object),
            time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        original = header.pairs(delivery.header) if delivery.header is not None else []
        sent = span.dead_letter(self._subject) if span is not None else None
        if sent is not None:
            fields = {name.lower() for name, _ in sent.headers}
            original = [*(pair for pair in original if pair[0].lower() not in fields), *sent.headers]
        message_id = f"{incoming.stream}:{incoming.sequence}.{incoming.stored_ns}:{self._process.project}-{self._function}:dead"
        own = ("Nats-Msg-Id", message_id)
        room = self._process.connection.max_payload - len(message_id) - len("Nats-Msg-Id") - 4
        pairs, body = deadletter.fit(deadletter.build(facts, original), delivery.body, room)
        publisher = self._process.connection.publisher

        async def once() -> Any:
            try:
                return await publisher.publish(self._subject, body, [*pairs, own])
            except NoStream:
                await ownstreams.ensure(self._process.connection, ownstreams.DEADLETTERS)
                log.warning("stream %s was gone; it is there again", ownstreams.DEADLETTERS)
                return await publisher.publish(self._subject, body, [*pairs, own])

        try:
            ack = await insist(once, math.inf, f"a dead letter of {self._function}")
        except ServerError as error:
            if sent is not None:
                sent.end(error=error)
            raise
        if sent is not None:
            sent.end(stream=ack.stream, sequence=ack.seq)


def trace_of(error: BaseException | None) -> str:
    """The traceback of a handler's exception, without our own frames above it; empty when none is the user's."""
    frames = error.__traceback__ if error is not None else None
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("runner."):
        frames = frames.tb_next
    if error is None or frames is None:
        return ""
    return "".join(traceback.format_exception(type(error), error, frames))


def term(dead: Dead) -> bytes:
    """The ack verb that ends a message, with its reason for the server's advisory."""
    text = CONTROL.sub(" ", f"{dead.reason}: {dead.message}" if dead.message else dead.reason)
    return b"+TERM " + text[:200].encode("utf-8", "replace")
