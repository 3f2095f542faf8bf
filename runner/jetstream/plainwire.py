"""The wire that writes only through nats-py's public calls: for WebSockets, and for a nats-py with other internals.

It is slower than `runner.jetstream.wire` and does the same, except for what nats-py does to headers: a name that is no HTTP token
is not written. If nats-py has not even the internals that `reader.py` needs, nats-py reads, too. Then only one of repeated headers
comes, bytes that are not UTF-8 come as U+FFFD, and a subject that is not UTF-8 ends the reading. The server tests run both ways.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from nats.aio.client import Client
from nats.errors import Error

from runner.core import acksubject
from runner.core import header as headers
from runner.jetstream import reader
from runner.jetstream.acks import Acks, Losing
from runner.jetstream.due import call_each
from runner.jetstream.limit import Limit
from runner.jetstream.plainheaders import PlainHeaders, status_block
from runner.jetstream.reader import Reader, Sink, abort
from runner.jetstream.stall import STALLED_SECONDS, Stall
from runner.jetstream.wire import FLUSH_SECONDS, Unsubscribe

log = logging.getLogger("jetrunner.wire")

ACK = b"$JS.ACK."
WATCH_SECONDS = 0.5


class PlainWire:
    """The same calls as `Wire`, but nats-py writes each message."""

    def __init__(self, client: Client) -> None:
        self.epoch = 0
        self.on_drop: Callable[[], None] = lambda: None
        """Called when messages were dropped: their senders wait for answers in vain."""
        self.pulls: WeakSet[Losing] = WeakSet()
        """The pulls, which are told when the connection is lost."""
        self.acks = Acks()
        self.limit = Limit()
        self.on_lost: list[Callable[[], None]] = []
        """Called when the connection is lost."""
        self._client = client
        self._outgoing: deque[tuple[bytes, bytes, bytes, bytes]] = deque()
        self._due: list[Callable[[], None]] = []
        self._scheduled = False
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.Task[None] | None = None
        self._unwritten = 0
        self._deaf = False
        self._stall = Stall(client, abort)
        self._heard = 0.0
        self._reader = (
            Reader(client, self.limit, self._stall, lambda: None, self._lost) if reader.fits(client) else None
        )
        """None if nats-py reads."""
        self._connected_by: Any = None
        self._watch()

    def _watch(self) -> None:
        """Drop a lost connection's unsent bytes: nats-py would wait for them, and a frozen server never takes them."""
        if self._client.is_closed:
            return
        transport = getattr(self._client, "_transport", None)
        if self._client.is_connected:
            self._connected_by = transport
        elif self._client.is_reconnecting and transport is self._connected_by:
            abort(self._client)
        self._loop.call_later(WATCH_SECONDS, self._watch)

    @property
    def heard(self) -> float:
        """When the server, or at least a message, was last heard of, by the monotonic clock."""
        return self._reader.heard if self._reader is not None else self._heard

    def disconnected(self) -> None:
        """Handle a lost connection if nats-py reads; nats-py tells of it only once it has begun to reconnect."""
        if self._reader is None:
            self._lost()

    def _lost(self) -> None:
        """Handle a lost connection: only acks that stay true are kept."""
        self.epoch += 1
        self._stall.begin()
        self._outgoing.extendleft(map(item_of, reversed(reader.take_unsent(self._client))))
        self._drop()
        for pull in list(self.pulls):
            pull.lost()
        for lost in self.on_lost:
            lost()

    def _drop(self) -> None:
        missed = not all(item[0].startswith(ACK) for item in self._outgoing)
        self._outgoing = deque(item for item in self._outgoing if self.acks.outlives(item[0], item[1]))
        self._unwritten = sum(len(item[1]) for item in self._outgoing)
        if missed:
            self.on_drop()

    def withdraw(self, consumer: bytes) -> list[bytes]:
        """Remove kept acks of a consumer's deliveries (`<stream>.<durable>`); gives their replies."""
        kept, self._outgoing = self._outgoing, deque()
        replies: list[bytes] = []
        for item in kept:
            if acksubject.consumer(item[0]) == consumer:
                replies.append(item[0])
            else:
                self._outgoing.append(item)
        self._unwritten = sum(len(item[1]) for item in self._outgoing)
        return replies

    def deafen(self) -> None:
        """Pass no more messages to any sink, because its user is about to end."""
        self._deaf = True
        if self._reader is not None:
            self._reader.sinks.clear()
        self.on_lost.clear()

    async def subscribe(self, subject: str, sink: Sink, queue: str = "") -> Unsubscribe:
        """Send every message of a subscription to `sink`."""

        async def deliver(message: Any) -> None:
            if (
                self._deaf or self._reader is not None
            ):  # it came before its sink was known; JetStream delivers it again
                return
            now = self._heard = time.monotonic()
            if now - self._stall.ticked > STALLED_SECONDS:
                self._stall.notice(now)
                return
            raw = status_block(message.headers)
            sink(message.subject.encode(), message.reply.encode(), raw, message.data)

        self.limit.require(subject.encode(), queue.encode())
        subscription = await self._client.subscribe(
            subject, queue=queue, cb=deliver, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        key = b"%d" % subscription._id
        if self._reader is not None:
            self._reader.sinks[key] = sink

        async def unsubscribe() -> None:
            try:
                if not self._client.is_closed:
                    async with asyncio.timeout(FLUSH_SECONDS):
                        # The PING of `drain` overtakes its UNSUB in nats-py's buffer: messages in between would be lost.
                        if unsubscribing := getattr(self._client, "_send_unsubscribe", None):
                            await unsubscribing(subscription._id)
                            await self._client.flush()
                            await self._client.flush()
                        await subscription.drain()  # type: ignore[no-untyped-call]  # messages on their way still arrive
            except (TimeoutError, Error, OSError):
                log.debug("unsubscribed from %s; the server has not confirmed it", subject)
            finally:
                if self._reader is not None:
                    self._reader.sinks.pop(key, None)

        return unsubscribe

    def ack(self, reply: bytes) -> None:
        """Acknowledge a delivery."""
        self._write((reply, b"+ACK", b"", b""))

    def answer(self, reply: bytes, verb: bytes) -> None:
        """Answer a delivery with one of JetStream's ack verbs."""
        self._write((reply, verb, b"", b""))

    def publish(self, subject: bytes, body: bytes, reply: bytes, header: bytes = b"") -> None:
        """Publish; the caller has checked the size. Raises ValueError if the subject is not valid."""
        self.limit.require(subject, reply)
        self._write((subject, body, reply, header))

    def publish_known(self, subject: bytes, body: bytes, reply: bytes, header: bytes = b"") -> None:
        """Publish to a subject that came in a frame or was checked, and is not too long."""
        self._write((subject, body, reply, header))

    def _write(self, item: tuple[bytes, bytes, bytes, bytes]) -> None:
        self._outgoing.append(item)
        self._unwritten += len(item[1])
        self._schedule()

    def due(self, callback: Callable[[], None]) -> None:
        """Call `callback` right before the next write."""
        self._due.append(callback)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Start to write the waiting messages."""
        callbacks, self._due = self._due, []
        call_each(callbacks)
        if not self._client.is_connected:
            self._drop()
        elif self._outgoing and (self._writer is None or self._writer.done()):
            self._writer = self._loop.create_task(self._write_all())

    async def _write_all(self) -> None:
        while self._outgoing and self._client.is_connected:
            item = subject, body, reply, header = self._outgoing.popleft()
            self._unwritten -= len(body)
            if self.acks.owning is not None and self.acks.silenced() and self.acks.unsaid(subject, body):
                continue
            try:
                await self._client.publish(
                    subject.decode(),
                    body,
                    reply=reply.decode(),
                    headers=PlainHeaders(headers.pairs(header)) if header else None,
                )
            except (Error, OSError):  # the sender waits for an answer, and sends it again
                if self.acks.outlives(subject, body) and self._client.is_reconnecting:
                    self._outgoing.appendleft(item)
                    self._unwritten += len(body)
            except Exception:  # a message that cannot be written must not hold up the others
                log.exception("a message to %r could not be written", subject)

    @property
    def backlog(self) -> int:
        """Bytes that wait to be written."""
        return self._client.pending_data_size + self._unwritten


def item_of(frame: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Subject and body of an ack's frame that nats-py has made; empty for any other frame."""
    line, _, rest = frame.partition(b"\r\n")
    words = line.split()
    if len(words) != 3 or words[0] != b"PUB" or not words[1].startswith(ACK):
        return b"", b"", b"", b""
    return words[1], rest[:-2], b"", b""
