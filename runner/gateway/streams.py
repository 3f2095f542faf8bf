"""Requests that become messages of a stream: the answer is 202 once the stream has it.

Each message has a `Nats-Msg-Id`, so that the gateway may safely publish it again if no answer came. With an `Idempotency-Key` the
id derives from key and target, so that the client may repeat its request, too.
"""

from __future__ import annotations

import os

import anyio

from runner.errors import NoResponders, NoStream, ServerError, StreamFull, TooLarge, Unconfirmed
from runner.gateway.answer import Answer, stored, trouble
from runner.gateway.httprequest import Http
from runner.jetstream import codes
from runner.jetstream.publisher import PubAck, Publisher, unanswered
from runner.telemetry.httpspans import HttpSpan

PATIENCE_SECONDS = 3.0
"""How long a message is published again while no answer comes, or its stream has no leader or is busy."""
TRY_SECONDS = 1.0
PAUSE_SECONDS = 0.05
"""Between two tries: a busy stream is no longer busy after some milliseconds."""
MOST_PAUSE_SECONDS = 0.4
"""The longest pause where the stream has no leader: an election takes seconds."""
FULL_SECONDS, AGAIN_SECONDS = 5.0, 1.0
NO_WORD = "the stream has not answered: it may have the message; ask again with the same Idempotency-Key"
BUSY = "the stream is busy: it may have the message; ask again with the same Idempotency-Key"


class Streams:
    """Publishes requests into streams, and answers with their place there."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def answer(
        self,
        http: Http,
        subject: str,
        body: bytes,
        timeout: float | None,
        *,
        span: HttpSpan | None,
        traces: bytes,
    ) -> Answer:
        """Publish a message, and answer with its place in the stream; `timeout` is that of the route, if it has one."""
        message_id = http.key or os.urandom(16).hex().encode()
        sent = span.output(subject) if span is not None else None
        if sent is not None:
            traces = "".join(f"{name}: {value}\r\n" for name, value in sent.headers).encode()
        lines = traces + b"Nats-Msg-Id: %b\r\n" % message_id + http.lines()
        try:
            ack = await self._stored(
                subject, body, b"NATS/1.0\r\n" + lines + b"\r\n", timeout or PATIENCE_SECONDS
            )
        except (ServerError, ValueError) as error:
            if sent is not None:
                sent.end(error=error)
            return _refused(error)
        if sent is not None:
            sent.end(stream=ack.stream, sequence=ack.seq)
        return stored(ack.stream, ack.seq, duplicate=ack.duplicate)

    async def _stored(self, subject: str, body: bytes, block: bytes, patience: float) -> PubAck:
        began = anyio.current_time()
        until, pause = began + patience, PAUSE_SECONDS
        lost: Unconfirmed | None = None
        refused: ServerError
        while True:
            left = until - anyio.current_time()
            try:
                return await self._publisher.publish_block(
                    subject, body, block, timeout=min(left, TRY_SECONDS)
                )
            except NoResponders as error:
                # The stream has no leader, as in an election, or after 3 s: it is not there.
                again = anyio.current_time() - began < PATIENCE_SECONDS
                refused = lost or error  # what became of an earlier try is not told by this one
                pause = min(MOST_PAUSE_SECONDS, 2 * pause)
            except ServerError as error:
                again, refused = unanswered(error) or error.code in codes.BUSY, error
            if isinstance(refused, Unconfirmed):
                lost = refused
            if not again or until - anyio.current_time() <= pause:
                raise refused
            await anyio.sleep(pause)


def _refused(error: Exception) -> Answer:
    if isinstance(error, StreamFull):
        found = trouble(503, "the stream is full now", after=FULL_SECONDS)
    elif isinstance(error, TooLarge):
        found = trouble(413, "the body is too large for the stream behind")
    elif isinstance(error, NoResponders):
        found = trouble(503, "no stream takes this now", after=FULL_SECONDS)
    elif isinstance(error, ServerError) and error.code in codes.BUSY:
        found = trouble(503, BUSY, after=AGAIN_SECONDS)
    elif isinstance(error, NoStream) or (isinstance(error, ServerError) and unanswered(error)):
        found = trouble(503, NO_WORD, after=AGAIN_SECONDS)
    else:
        found = trouble(502, "the stream has refused it")
    found.why = str(error)
    return found
