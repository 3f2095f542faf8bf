"""Frames of our own subscriptions, straight from the socket to their sinks.

Rule 1: `Reader` stands in the place of nats-py's parser. A MSG or HMSG of a subscription it knows goes to that
        subscription's sink as bytes: no Msg object, queue, task hop or header dict, and whatever bytes they are. Every
        other frame goes through nats-py's parser, unchanged.
Rule 2: a frame that cannot be read costs itself, at most the connection; it never ends the reading.

The private names of nats-py that it leans on are in this file; `fits` checks them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from runner.jetstream.limit import Limit
from runner.jetstream.stall import STALLED_SECONDS, Stall
from runner.jetstream.unfinished import Unfinished

Sink = Callable[[bytes, bytes, "bytes | None", bytes], None]
"""Called with subject, reply (empty without one), raw header block (None without one) and body."""

log = logging.getLogger("jetrunner.wire")
clock = time.monotonic


def fits(client: Client) -> bool:
    """Whether nats-py has the shape that a reader leans on."""
    return type(getattr(client, "_ps", None)) is Parser and isinstance(getattr(client, "_subs", None), dict)


def abort(client: Client) -> None:
    """Drop the connection's socket, unsent bytes and all, where nats-py has the shape we know."""
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    if writer is not None:
        writer.transport.abort()


def take_unsent(client: Client) -> list[bytes]:
    """Empty the buffer that nats-py would send on the next connection, where it has the shape we know.

    Subscriptions among it are asked for again anyway.
    """
    unsent = getattr(client, "_pending", None)
    if not isinstance(unsent, list) or not isinstance(getattr(client, "_pending_data_size", None), int):
        return []
    client._pending, client._pending_data_size = [], 0
    return unsent


class Reader(Parser):
    """nats-py's parser, with a short way in for the subscriptions in `sinks`."""

    def __init__(
        self, client: Client, limit: Limit, stall: Stall, read: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        self.sinks: dict[bytes, Sink] = {}
        """By the subscription's number."""
        self.heard = 0.0
        """When the server was last heard of, by the monotonic clock."""
        self._limit = limit
        self._stall = stall
        self._read = read
        """Called after each read."""
        self._lost = lost
        """Called when the connection is lost, before anything comes on the next one."""
        self._losses = 0
        # The start of an INFO may have come while nats-py still read.
        self._unfinished = Unfinished(bytes(getattr(client._ps, "buf", b"")))
        self.nc = client  # what its own `__init__` does; that would call our `reset`
        super().reset()
        client._ps = self

    def reset(self) -> None:
        """nats-py calls this when the connection is lost, before it starts to reconnect."""
        super().reset()
        self._unfinished.clear()
        self._losses += 1
        self._stall.begin()
        self._lost()

    async def parse(self, data: bytes = b"") -> None:
        """Work off what one read brought; an unfinished frame waits for its rest."""
        now = self.heard = clock()
        if now - self._stall.ticked > STALLED_SECONDS:
            self._stall.notice(now)
            return
        if self._unfinished.chunks and not (data := self._unfinished.joined(data)):
            return
        position, end = 0, len(data)
        find, sink_of, losses, need = data.find, self.sinks.get, self._losses, 1
        while True:
            line = find(b"\r\n", position)
            if line < 0:
                need = end - position + 1
                break
            first = data[position]
            if first == 77 or first == 72:  # noqa: PLR1714  # M(SG), H(MSG); the hot path
                words = data[position:line].split(b" ")
                body = line + 2
                try:
                    stop = body + int(words[-1])
                    sink = sink_of(words[2])
                except (ValueError, IndexError):  # anything else would end nats-py's reading for good
                    raise ProtocolError("nats: malformed MSG") from None
                if not body <= stop <= end - 2:
                    need = stop + 2 - position
                    break
                if sink is None:
                    await self._other_message(data[position : stop + 2])
                else:
                    try:
                        if first == 77:
                            sink(words[1], words[3] if len(words) == 5 else b"", None, data[body:stop])
                        else:
                            split = body + int(words[-2])
                            reply = words[3] if len(words) == 6 else b""
                            sink(words[1], reply, data[body:split], data[split:stop])
                    except Exception:  # an exception that gets out of here ends nats-py's reading for good
                        log.exception("a frame could not be delivered")
                position = stop + 2
            else:
                await self._control(data[position : line + 2])
                position = line + 2
            if losses != self._losses:
                return  # the connection was lost under us: what is left belongs to the old one
        if position < end:
            self._unfinished.keep(data[position:], need)
        self._read()

    async def _other_message(self, frame: bytes) -> None:
        """A whole message for nats-py's own parser, which takes text alone."""
        try:
            await super().parse(frame)
        except Exception:  # it costs itself
            super().reset()
            log.exception("a message of another subscription could not be read")

    async def _control(self, frame: bytes) -> None:
        """A line that is no message, for nats-py's own parser."""
        if self._limit.exceeded(frame):
            return  # nats-py would close for good
        try:
            await super().parse(as_text(frame))
        except asyncio.InvalidStateError:
            # nats-py answers a flush that had been given up; raised on, it would end its reading for good.
            super().reset()
            log.debug("a PONG came too late")
        except (OSError, ProtocolError):
            raise  # nats-py connects again
        except Exception as error:
            log.exception("a line of the server's could not be read")
            raise ProtocolError("nats: unreadable line") from error


def as_text(line: bytes) -> bytes:
    """The line as nats-py can decode it: the server quotes subjects byte for byte where it refuses them."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode("utf-8", "backslashreplace").encode()
    return line
