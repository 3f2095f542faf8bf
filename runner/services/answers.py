"""The answers of one process: where they may go, and what happens to them while there is no connection.

Rule 1: an answer goes to an inbox, and nowhere else. The asker chooses the reply subject; without this rule the answer would use
        our permissions on a subject where the asker may not publish. An inbox begins like a client's (`_INBOX` and any rest) or
        like ours; or as servers write it for other accounts and clusters (`_R_.`, `_GR_.`); or as the setting `inboxes` says.
Rule 2: an answer that is made while the connection is lost is sent on the next connection, if its asker may still wait. An answer
        that was on the wire when the connection broke may be lost: then the asker waits until its deadline.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from runner import codec
from runner.jetstream.connection import Connection
from runner.services.request import Request

log = logging.getLogger("jetrunner.answers")

MSGPACK = b"NATS/1.0\r\nContent-Type: application/msgpack\r\n\r\n"
SERVERS = (b"_R_.", b"_GR_.")
"""Beginnings of the reply subjects that servers make for askers in other accounts and clusters."""
KEPT_SECONDS = 10.0
"""Longest time that an answer is kept for the next connection."""
MOST_KEPT = 4_096
MOST_BYTES = 8 << 20
LOOK_SECONDS = 0.025
TELL_SECONDS = 60.0

clock = time.monotonic


def encoded(request: Request, result: Any, most: int) -> tuple[bytes, bytes]:
    """Encode an answer: body and headers; the server takes `most` bytes. Raises ValueError if it cannot be sent."""
    if result is None:
        return b"", b""
    body = codec.encode(result, msgpack=request.msgpack)
    if len(body) > most - len(MSGPACK):
        raise ValueError(f"the answer has {len(body):,} bytes, and the server takes {most:,}")
    packed = request.msgpack and not isinstance(result, (bytes, bytearray, memoryview, str))
    return body, MSGPACK if packed else b""


class Answers:
    """Sends the answers of one process; made once, before the first request."""

    def __init__(self, connection: Connection, inboxes: Iterable[str]) -> None:
        self._connection = connection
        self._wire = connection.wire
        self._kinds = (*connection.inbox.kinds, *SERVERS, *(each.encode() for each in inboxes))
        self._limit = connection.wire.limit
        self.back: Callable[[], None] = lambda: None
        """Called once there is a connection again."""
        self._lost = False
        self._kept: deque[tuple[float, bytes, bytes, bytes]] = deque()
        """Each answer kept: until when, reply subject, body and headers."""
        self._bytes = 0
        self._told = -TELL_SECONDS
        connection.wire.on_lost.append(self._is_lost)

    def may(self, reply: bytes) -> bool:
        """Whether an answer may go to this reply subject."""
        return reply.startswith(self._kinds) and len(reply) <= self._limit.longest

    def refuse(self, function: str, reply: bytes) -> None:
        """Log, at most once a minute, a request that does not run because its answer must not go to its reply subject."""
        now = clock()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            log.warning(
                '%s: a request does not run, because its reply subject %r is not an inbox (inboxes = ["…"] in [tool.jetrunner] allows more)',
                function,
                reply[:100],
            )

    def send(self, reply: bytes, body: bytes, header: bytes = b"", expires: float = 0.0) -> None:
        """Send an answer; its asker waits until `expires`."""
        if not self._lost:
            self._wire.publish_known(reply, body, b"", header)
            return
        size = len(reply) + len(body) + len(header)
        if size > MOST_BYTES:
            return
        self._kept.append((min(expires, clock() + KEPT_SECONDS), reply, body, header))
        self._bytes += size
        while self._bytes > MOST_BYTES or len(self._kept) > MOST_KEPT:
            self._drop()

    def _drop(self) -> None:
        _, reply, body, header = self._kept.popleft()
        self._bytes -= len(reply) + len(body) + len(header)

    def _is_lost(self) -> None:
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Send the kept answers once there is a connection again."""
        if self._connection.closed.is_set():
            return
        if not self._connection.is_connected:
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
            return
        self._lost = False
        now, kept, self._kept, self._bytes = clock(), self._kept, deque(), 0
        for expires, reply, body, header in kept:
            if expires > now:
                self._wire.publish_known(reply, body, b"", header)
        self.back()
