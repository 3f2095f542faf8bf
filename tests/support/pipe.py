"""One connection of a proxy: two pipes, each of which may hold what it has been given."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, TypeAlias, cast

Way: TypeAlias = Literal["up", "down"]
"""From the client to the server, or back."""
HELD_BYTES = 1 << 20
"""A pipe that holds more reads no further, and then its writer notices: as a wire does."""
OPENING_BYTES = 4096
ACCOUNT = re.compile(rb'\r\nINFO \{[^\r]*"route_account":"([^"]*)"')


class Connection:
    """A client's connection and the one to the server that belongs to it.

    `ruled` is called whenever more is known about it, and applies to its `pipes` what is frozen; `gone` at its end.
    """

    def __init__(
        self, target: int, ruled: Callable[[Connection], None], gone: Callable[[Connection], None]
    ) -> None:
        self.half_open = False
        """The server's side is closed, and the client knows nothing of it."""
        up, down = Pipe(self), Pipe(self)
        up.other, down.other = down, up
        self.pipes: dict[Way, Pipe] = {"up": up, "down": down}
        self._target = target
        self._ruled = ruled
        self._gone = gone
        self._opening = b""
        self._dialling: asyncio.Task[None] | None = None
        self.dropped = False

    @property
    def account(self) -> str:
        """The one account that a route between two servers carries, as its dialler says; empty of all others."""
        found = ACCOUNT.search(self._opening)
        return found[1].decode() if found is not None else ""

    def made(self, pipe: Pipe) -> None:
        """One side is there: when it is the client's, the server is dialled."""
        if self.dropped or self.half_open:
            pipe.drop()
        elif pipe is self.pipes["up"]:
            self._ruled(self)
            self._dialling = asyncio.get_running_loop().create_task(self._dial())
        else:
            pipe.other.flow()

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.pipes["down"], "127.0.0.1", self._target)
        except OSError:
            self.drop()

    def said(self, pipe: Pipe, chunk: bytes) -> None:
        """What the client says first tells whose connection it is."""
        if pipe is self.pipes["up"] and len(self._opening) < OPENING_BYTES:
            self._opening += chunk
            self._ruled(self)

    def forget_server(self) -> None:
        """Close the server's side; the client is told nothing, and what it says goes nowhere."""
        self.half_open = True
        for pipe in self.pipes.values():
            pipe.forget()
        self.pipes["down"].drop()

    def lost(self, pipe: Pipe) -> None:
        """One side of a half-open connection has closed."""
        if pipe is self.pipes["up"]:
            self.drop()

    def drop(self) -> None:
        """Break both sides at once; what is held is lost."""
        self.dropped = True
        if self._dialling is not None:
            self._dialling.cancel()
        for pipe in self.pipes.values():
            pipe.drop()
        self._gone(self)


class Pipe(asyncio.Protocol):
    """What is read at one side, on its way to the other; an empty chunk stands for the end."""

    def __init__(self, connection: Connection) -> None:
        self.other: Pipe = self
        self.transport: asyncio.Transport | None = None
        self.gone = False
        """Its side has closed: what arrives for it from the other goes nowhere."""
        self._connection = connection
        self._held: deque[tuple[float, bytes]] = deque()
        """With the moment of arrival."""
        self._size = 0
        self._frozen = False
        self._delay = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._full = False
        """The other side takes no more just now."""
        self._forgotten = False

    def rule(self, *, frozen: bool, delay: float) -> None:
        """Hold everything or not, and let it arrive so much later."""
        self._frozen, self._delay = frozen, delay
        self.flow()

    def forget(self) -> None:
        """What is held and what will come goes nowhere."""
        self._forgotten = True
        self._held.clear()
        self._size = 0
        self._read_on()

    def drop(self) -> None:
        """Close this side now."""
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is not None and not self.gone:
            self.transport.abort()

    # -- what the loop tells ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._connection.made(self)

    def data_received(self, data: bytes) -> None:
        self._connection.said(self, data)
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if self._forgotten:
            self._connection.lost(self)
        self._take(b"")

    def pause_writing(self) -> None:
        self.other.fill(True)

    def resume_writing(self) -> None:
        # Later: a transport that is closed while it tells this loses its connection twice.
        asyncio.get_running_loop().call_soon(self.other.fill, False)

    def fill(self, full: bool) -> None:
        """The other side takes no more, or takes more again."""
        self._full = full
        self.flow()

    # -- on the way ---------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        if self._forgotten:
            return
        self._held.append((time.monotonic(), data))
        self._size += len(data)
        self.flow()

    def flow(self) -> None:
        """Pass on what may go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sink = self.other
        while self._held and not self._frozen and not self._full and (sink.gone or sink.transport):
            arrived, data = self._held[0]
            if (early := arrived + self._delay - time.monotonic()) > 0 and self._delay:
                self._timer = asyncio.get_running_loop().call_later(early, self.flow)
                break
            self._held.popleft()
            self._size -= len(data)
            if not data:
                self._end()
                return
            if not sink.gone and sink.transport is not None:
                sink.transport.write(data)
        self._read_on()

    def _end(self) -> None:
        """This side has closed, and all that it said before went on: the other side is closed, too."""
        if not self.other.gone and self.other.transport is not None:
            self.other.transport.close()
        else:
            self._connection.drop()

    def _read_on(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self._size > HELD_BYTES:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()
