"""Passes frames of our own subscriptions directly from the socket to their sinks.

Rule 1: `Reader` takes the place of nats-py's parser. A MSG or HMSG of a known subscription goes to its sink as bytes, whatever
        these are: without a Msg object, queue, task switch or header dict. Any other frame goes through nats-py's parser,
        unchanged.
Rule 2: data that comes while nats-py's task waits is handled at once, in the same turn of the loop. That task is woken only for
        frames that are not ours.
Rule 3: a frame that cannot be read is lost, at most with the connection, but never ends the reading.

All private names of nats-py that the reader depends on are in this file; `fits` checks them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from runner.jetstream.limit import Limit
from runner.jetstream.stall import STALLED_SECONDS, Stall
from runner.jetstream.unfinished import Unfinished

Sink = Callable[[bytes, bytes, "bytes | None", bytes], None]
"""Called with subject, reply (empty without one), raw header block (None without one) and body."""

SHORT = 32_768
"""Most bytes handled at once, as many as nats-py reads at once. More data goes through nats-py's task in parts, so that other work comes
between.
"""

log = logging.getLogger("jetrunner.wire")
clock = time.monotonic


def fits(client: Client) -> bool:
    """Whether nats-py has the internals that a reader needs."""
    return type(getattr(client, "_ps", None)) is Parser and isinstance(getattr(client, "_subs", None), dict)


def abort(client: Client) -> None:
    """Close the connection's socket without sending the rest, if nats-py has the internals that we know."""
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    if writer is not None:
        writer.transport.abort()


def take_unsent(client: Client) -> list[bytes]:
    """Empty the buffer that nats-py would send on the next connection, if it has the internals that we know.

    Subscriptions in it are sent again anyway.
    """
    unsent = getattr(client, "_pending", None)
    if not isinstance(unsent, list) or not isinstance(getattr(client, "_pending_data_size", None), int):
        return []
    client._pending, client._pending_data_size = [], 0
    return unsent


class Reader(Parser):
    """nats-py's parser, with a shortcut for the subscriptions in `sinks`."""

    def __init__(
        self, client: Client, limit: Limit, stall: Stall, read: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        self.sinks: dict[bytes, Sink] = {}
        """The sinks, by the number of their subscription."""
        self.heard = 0.0
        """When the server was last heard of, by the monotonic clock."""
        self._limit = limit
        self._stall = stall
        self._read = read
        """Called after each read."""
        self._lost = lost
        """Called when the connection is lost, before any data comes on the next one."""
        self._losses = self._need = 0
        """How many connections were lost; and the size of a frame that has come only in part."""
        self._stream: asyncio.StreamReader | None = None
        """The stream that nats-py reads on this connection, once its data comes here first."""
        # The start of an INFO may have come while nats-py still read.
        self._unfinished = Unfinished(bytes(getattr(client._ps, "buf", b"")))
        self.nc = client  # as its own `__init__` does, which would call our `reset`
        super().reset()
        client._ps = self

    def reset(self) -> None:
        """Called by nats-py when the connection is lost, before it starts to reconnect."""
        super().reset()
        self._unfinished.clear()
        self._losses += 1
        if self._stream is not None:
            vars(self._stream).pop("feed_data", None)
            self._stream = None
        self._stall.begin()
        self._lost()

    async def parse(self, data: bytes = b"") -> None:
        """Handle data that nats-py has read; an unfinished frame waits for its rest."""
        if self.nc.is_reconnecting or self.nc.is_closed:
            return  # from the lost connection: nats-py's task was woken before it was cancelled
        now = self.heard = clock()
        if now - self._stall.ticked > STALLED_SECONDS:
            self._stall.notice(now)
            return
        if self._stream is None:
            self._follow()
        if self._unfinished.chunks and not (data := self._unfinished.joined(data)):
            return
        losses, position = self._losses, 0
        while True:
            position, stop = self._hand_out(data, position)
            if stop and losses == self._losses:
                await self._other(data[position:stop])
                position = stop
            if losses != self._losses:
                return  # the connection was lost meanwhile: the rest belongs to the old one
            if not stop:
                break
        if position < len(data):
            self._unfinished.keep(data[position:], self._need)
        self._read()

    def _follow(self) -> None:
        """Make the socket's data come here first, if the stream that nats-py reads has the internals that we know."""
        stream = getattr(self.nc._transport, "_io_reader", None)
        if type(stream) is asyncio.StreamReader and hasattr(stream, "_waiter"):
            self._stream = stream
            stream.feed_data = partial(self._came, stream, stream.feed_data)  # type: ignore[method-assign]

    def _came(self, stream: asyncio.StreamReader, feed: Callable[[bytes], None], data: bytes) -> None:
        """Handle data of the socket while nats-py's task waits for it; frames that are not ours are left to that task."""
        now, waiter = clock(), stream._waiter  # type: ignore[attr-defined]
        if (
            stream is not self._stream
            or waiter is None  # it has not handled the data before
            or waiter.done()
            or self._unfinished.chunks
            or len(data) > SHORT
            or now - self._stall.ticked > STALLED_SECONDS
            or type(data) is not bytes
        ):
            feed(data)
            return
        self.heard, losses = now, self._losses
        position, _ = self._hand_out(data, 0)
        if losses == self._losses:
            self._read()
            if position < len(data):
                feed(data[position:])

    def _hand_out(self, data: bytes, position: int) -> tuple[int, int]:
        """Give frames to their sinks until one has none; gives that frame's start and end, an end of 0 if it has not come whole."""
        end, find, sink_of, losses = len(data), data.find, self.sinks.get, self._losses
        while True:
            line = find(b"\r\n", position)
            if line < 0:
                self._need = end - position + 1
                return position, 0
            first = data[position]
            if first != 77 and first != 72:  # noqa: PLR1714  # M(SG), H(MSG); the hot path
                return position, line + 2
            words = data[position:line].split(b" ")
            body = line + 2
            try:
                stop = body + int(words[-1])
                sink = sink_of(words[2])
            except (ValueError, IndexError):
                return position, body  # no frame: `_other` says so
            if not body <= stop <= end - 2:
                if stop < body:
                    return position, body
                self._need = stop + 2 - position
                return position, 0
            if sink is None:
                return position, stop + 2
            try:
                if first == 77:
                    sink(words[1], words[3] if len(words) == 5 else b"", None, data[body:stop])
                else:
                    split = body + int(words[-2])
                    reply = words[3] if len(words) == 6 else b""
                    sink(words[1], reply, data[body:split], data[split:stop])
            except Exception:  # an exception that leaves this method ends nats-py's reading for good
                log.exception("a frame could not be delivered")
            position = stop + 2
            if losses != self._losses:
                return position, 0

    async def _other(self, frame: bytes) -> None:
        """Handle a frame that has no sink. Raises ProtocolError if it is no frame."""
        if frame[0] not in b"MH":
            await self._control(frame)
        elif frame.find(b"\r\n") == len(frame) - 2:  # only its line
            raise ProtocolError("nats: malformed MSG")  # any other error would end nats-py's reading for good
        else:
            await self._other_message(frame)

    async def _other_message(self, frame: bytes) -> None:
        """Pass a whole message to nats-py's own parser, which takes only text."""
        try:
            await super().parse(frame)
        except Exception:  # only this message is lost
            super().reset()
            log.exception("a message of another subscription could not be read")

    async def _control(self, frame: bytes) -> None:
        """Pass a line that is not a message to nats-py's own parser."""
        if self._limit.exceeded(frame):
            return  # nats-py would close for good
        try:
            await super().parse(as_text(frame))
        except asyncio.InvalidStateError:
            # nats-py answers a flush that was given up; the exception would end its reading for good.
            super().reset()
            log.debug("a PONG came too late")
        except (OSError, ProtocolError):
            raise  # nats-py connects again
        except Exception as error:
            log.exception("a protocol line from the server could not be read")
            raise ProtocolError("nats: unreadable line") from error


def as_text(line: bytes) -> bytes:
    """The line as nats-py can decode it: the server quotes refused subjects byte for byte."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode("utf-8", "backslashreplace").encode()
    return line
