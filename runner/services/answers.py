"""The answers of one process: where they may go, and what becomes of them while there is no connection.

Rule 1: an answer goes to an inbox, and nowhere else. Its subject is the asker's to choose: elsewhere we would publish with
        our rights what he may not. An inbox begins as clients' do (`_INBOX`, whatever follows), or ours; as the server
        writes them for other accounts and clusters (`_R_.`, `_GR_.`); or as the setting `inboxes` says.
Rule 2: what is answered while the connection is lost leaves on the next one, as long as its asker may wait. What was on the
        wire when it was lost may be lost: the asker's deadline ends its wait.
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
"""What replies begin with that a server made of others'."""
KEPT_SECONDS = 10.0
"""An asker without a deadline is taken to wait for so long."""
MOST_KEPT = 4_096
MOST_BYTES = 8 << 20
LOOK_SECONDS = 0.025
TELL_SECONDS = 60.0

clock = time.monotonic


def encoded(request: Request, result: Any, most: int) -> tuple[bytes, bytes]:
    """Body and headers of an answer; the server takes `most` bytes. Raises ValueError where it cannot be sent."""
    if result is None:
        return b"", b""
    body = codec.encode(result, msgpack=request.msgpack)
    if len(body) > most - len(MSGPACK):
        raise ValueError(f"the answer has {len(body):,} bytes, and the server takes {most:,}")
    packed = request.msgpack and not isinstance(result, (bytes, bytearray, memoryview, str))
    return body, MSGPACK if packed else b""


class Answers:
    """Sends them; made once, before anything asks."""

    def __init__(self, connection: Connection, inboxes: Iterable[str]) -> None:
        self._connection = connection
        self._wire = connection.wire
        self._kinds = (*connection.inbox.kinds, *SERVERS, *(each.encode() for each in inboxes))
        self._limit = connection.wire.limit
        self.back: Callable[[], None] = lambda: None
        """Called once there is a connection again."""
        self._lost = False
        self._kept: deque[tuple[float, bytes, bytes, bytes]] = deque()
        """Until when, reply, body and headers."""
        self._bytes = 0
        self._told = -TELL_SECONDS
        connection.wire.on_lost.append(self._is_lost)

    def may(self, reply: bytes) -> bool:
        """Whether an answer may go there."""
        return reply.startswith(self._kinds) and len(reply) <= self._limit.longest

    def refuse(self, function: str, reply: bytes) -> None:
        """Tell of a request that is not run, since its answer may go nowhere: once a minute."""
        now = clock()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            log.warning(
                '%s: a request is not run: its answer would go to %r, which is no inbox (inboxes = ["…"] in [tool.jetrunner] names more kinds)',
                function,
                reply[:100],
            )

    def send(self, reply: bytes, body: bytes, header: bytes = b"", expires: float = 0.0) -> None:
        """Answer; `expires` is until when the asker waits."""
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
        """Whether there is a connection again: then what was kept leaves."""
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
