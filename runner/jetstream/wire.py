"""The wire: it passes frames of our own subscriptions from the socket to a function (`reader.py`), and writes frames.

Rule 1: all frames written during one turn of the event loop leave as one write.
Rule 2: while disconnected no frames are written. Acks that stay true are kept (`acks.py`). Any other frame is dropped, since its
        sender waits for an answer and sends it again.
Rule 3: a subject that is not valid, or too long (`limit.py`), is not written. Subjects that came in a frame are not checked: they
        were split at spaces and line ends.

All private names of nats-py that the wire depends on are in this file; `fits` checks them at connect. If nats-py has other
internals, `runner.jetstream.plainwire` is used instead: slower, but correct.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

from nats.aio.client import Client
from nats.errors import Error

from runner.jetstream import reader
from runner.jetstream.acks import Acks, Losing, withdrawn
from runner.jetstream.due import call_each
from runner.jetstream.limit import Limit
from runner.jetstream.reader import Reader, Sink, abort
from runner.jetstream.stall import Stall

log = logging.getLogger("jetrunner.wire")

FRAMES_A_WRITE = 256
FLUSH_SECONDS = 5
"""How long an unsubscription waits for the server to say that no more messages come: what comes later is lost here, and comes again."""
SUBSCRIBE_TURNS = 40


class Unsubscribe(Protocol):
    """Ends a subscription."""

    async def __call__(self) -> None:
        """Return once no more messages of it arrive."""


def fits(client: Client) -> bool:
    """Whether nats-py has the internals that this file needs."""
    transport = getattr(client, "_transport", None)
    return (
        reader.fits(client)
        and callable(getattr(transport, "write", None))
        and hasattr(transport, "_io_writer")  # a WebSocket has none: its frames are not a byte stream
    )


class Wire:
    """A reader in place of nats-py's parser, and a shortcut for writes."""

    def __init__(self, client: Client) -> None:
        self.epoch = 0
        """How many connections were lost so far."""
        self.on_drop: Callable[[], None] = lambda: None
        """Called when frames were dropped: their senders wait for answers in vain."""
        self.pulls: WeakSet[Losing] = WeakSet()
        """The pulls, which are told when the connection is lost."""
        self.acks = Acks()
        self.limit = Limit()
        self.on_lost: list[Callable[[], None]] = []
        """Called when the connection is lost, before data comes or leaves on the next one."""
        self.before_flush: list[Callable[[], None]] = []
        """Called once each, right before the next write, to add frames that could wait until then."""
        self._client = client
        self._frames: list[bytes] = []
        self._scheduled = False
        self._loop = asyncio.get_running_loop()
        self.reader = Reader(client, self.limit, Stall(client, abort), self._read, self._lost)

    @property
    def heard(self) -> float:
        """When the server was last heard of, by the monotonic clock."""
        return self.reader.heard

    def _read(self) -> None:
        """Write the frames that one read has caused, and later those of tasks that it has woken, each in one write.

        The tasks go on in the next turn of the loop. Without the second call their frames would wait for the turn after that.
        """
        if self._frames:
            self.flush()
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_soon)

    def _lost(self) -> None:
        """Handle a lost connection, before nats-py begins to reconnect."""
        self.epoch += 1
        self._drop()
        for pull in list(self.pulls):
            pull.lost()
        for lost in self.on_lost:
            lost()
        if self._client.is_reconnecting:
            # nats-py would wait for the old connection's unsent bytes, which a frozen server never takes.
            abort(self._client)

    async def subscribe(self, subject: str, sink: Sink, queue: str = "") -> Unsubscribe:
        """Pass every message of a subscription to `sink`, within the read that brought it."""
        self.limit.require(subject.encode(), queue.encode())

        async def misrouted(_: Any) -> None:
            """Drop a message that came before the sink was known; JetStream delivers it again."""

        subscription = await self._client.subscribe(subject, queue=queue, cb=misrouted)
        key = b"%d" % subscription._id
        self.reader.sinks[key] = sink
        # nats-py keeps SUB in a buffer of its own; our next write must not overtake it.
        # While it reconnects, nothing flushes that buffer: the subscription is sent again on the next connection.
        for turn in range(SUBSCRIBE_TURNS):
            if not self._client.pending_data_size or not self._client.is_connected:
                break
            await asyncio.sleep(0 if turn < SUBSCRIBE_TURNS // 2 else 0.005)

        async def unsubscribe() -> None:
            # The sink stays until the server has said that no more messages come: those on their way arrive.
            try:
                if not self._client.is_closed:
                    await subscription.unsubscribe()
                    for _ in range(2):  # nats-py's first PING overtakes data in its buffer
                        await self._client.flush(FLUSH_SECONDS)
            except (Error, OSError, TimeoutError):
                log.debug("unsubscribed from %s; the server has not confirmed it", subject)
            finally:
                self.reader.sinks.pop(key, None)

        return unsubscribe

    def deafen(self) -> None:
        """Pass no more messages to any sink, because its user is about to end."""
        self.reader.sinks.clear()
        self.on_lost.clear()

    # -- writing ----------------------------------------------------------------------------------------

    def ack(self, reply: bytes) -> None:
        """Acknowledge a delivery."""
        frames = self._frames
        frames.append(b"PUB %b 4\r\n+ACK\r\n" % reply)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_soon)
        elif len(frames) >= FRAMES_A_WRITE:
            self.flush()

    def answer(self, reply: bytes, verb: bytes) -> None:
        """Answer a delivery with one of JetStream's ack verbs."""
        self._write(b"PUB %b %d\r\n%b\r\n" % (reply, len(verb), verb))

    def publish(self, subject: bytes, body: bytes, reply: bytes, header: bytes = b"") -> None:
        """Publish; the caller has checked the size. Raises ValueError if the subject is not valid."""
        self.limit.require(subject, reply)
        self.publish_known(subject, body, reply, header)

    def publish_known(self, subject: bytes, body: bytes, reply: bytes, header: bytes = b"") -> None:
        """Publish to a subject that came in a frame or was checked, and is not too long."""
        if header:
            size = len(header)
            self._write(
                b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, size, size + len(body), header, body)
            )
        else:
            self._write(b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(body), body))

    def _write(self, frame: bytes) -> None:
        frames = self._frames
        frames.append(frame)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_soon)
        elif len(frames) >= FRAMES_A_WRITE:
            self.flush()

    def due(self, callback: Callable[[], None]) -> None:
        """Call `callback` right before the next write, at the latest at the end of this turn of the loop."""
        self.before_flush.append(callback)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Write the waiting frames now; while disconnected, write none."""
        if self.before_flush:
            callbacks, self.before_flush = self.before_flush, []
            call_each(callbacks)
        if not self._frames:
            return
        if not self._client.is_connected:
            self._drop()
            return
        frames, self._frames = self._frames, []
        if self.acks.owning is not None and self.acks.silenced():
            frames = self.acks.spoken(frames)
        try:
            self._client._transport.write(b"".join(frames))  # type: ignore[union-attr]
        except (OSError, AttributeError):  # the connection was just closed: nats-py is about to notice
            self._frames = frames
            self._drop()

    def _drop(self) -> None:
        """Keep only those waiting frames that are still true on the next connection."""
        self._frames, missed = self.acks.kept(self._frames)
        if missed:
            self.on_drop()

    def withdraw(self, consumer: bytes) -> list[bytes]:
        """Remove kept acks of a consumer's deliveries (`<stream>.<durable>`); gives their replies."""
        self._frames, replies = withdrawn(self._frames, consumer)
        return replies

    @property
    def backlog(self) -> int:
        """Bytes that the server has not taken yet."""
        writer = getattr(self._client._transport, "_io_writer", None)
        return writer.transport.get_write_buffer_size() if writer is not None else 0
