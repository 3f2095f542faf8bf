"""A TCP proxy between a client and a server, whose wire a test may cut, freeze, slow down and half-open.

`up` is the way from the client to the server, `down` the way back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from tests.support.pipe import Connection, Pipe, Way

Chosen: TypeAlias = Callable[[Connection], bool]
BOTH: tuple[Way, ...] = ("up", "down")


def all_of_them(_: Connection) -> bool:
    """Every connection."""
    return True


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`, until a test interferes; open it with `Proxy.to`.

    It keeps the port while it is cut, so a client that reconnects finds it again.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.connections = 0
        """Accepted so far, so that a test can wait for a reconnect."""
        self.open: set[Connection] = set()
        self._frozen: dict[Way, Chosen | None] = {"up": None, "down": None}
        self._delay: dict[Way, float] = {"up": 0.0, "down": 0.0}
        self._refusing = False

    @staticmethod
    @asynccontextmanager
    async def to(target: int) -> AsyncIterator[Proxy]:
        """A proxy to a port of 127.0.0.1 for the length of the block."""
        proxy = Proxy(target)
        listener = await asyncio.get_running_loop().create_server(proxy._accepted, "127.0.0.1", 0)
        proxy.port = listener.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            listener.close()
            proxy._drop()

    @property
    def url(self) -> str:
        """`nats://127.0.0.1:PORT` of the proxy."""
        return f"nats://127.0.0.1:{self.port}"

    async def cut(self, *, refuse: bool = False) -> None:
        """Break every connection now: both ends see it at once. With `refuse`, new ones break too until `mend`."""
        self._refusing = refuse
        self._drop()
        await asyncio.sleep(0)

    async def mend(self) -> None:
        """Let everything through again, cut, frozen or slow before; what is half open breaks."""
        self._refusing = False
        self.delay(0.0)
        self.thaw()
        for connection in [each for each in self.open if each.half_open]:
            connection.drop()

    def freeze(self, *ways: Way, only: Chosen = all_of_them) -> None:
        """Hold every byte, in both directions or in one: connections stay open and silent, new ones too.

        The end of a connection is held like a byte. With `only`, other connections go on.
        """
        for way in ways or BOTH:
            self._frozen[way] = only
        self._told()

    def thaw(self, *ways: Way) -> None:
        """Let the held bytes go on."""
        for way in ways or BOTH:
            self._frozen[way] = None
        self._told()

    def delay(self, seconds: float, *ways: Way) -> None:
        """Add latency, to both directions or to one; 0 takes it away."""
        for way in ways or BOTH:
            self._delay[way] = seconds
        self._told()

    def half_open(self) -> int:
        """Close the server's side of every connection and tell the client nothing: its bytes go nowhere.

        New connections go through. Returns how many are half open now.
        """
        for connection in self.open:
            connection.forget_server()
        return sum(connection.half_open for connection in self.open)

    def _rule(self, connection: Connection) -> None:
        for way, pipe in connection.pipes.items():
            chosen = self._frozen[way]
            pipe.rule(frozen=chosen is not None and chosen(connection), delay=self._delay[way])

    def _told(self) -> None:
        for connection in list(self.open):
            self._rule(connection)

    def _drop(self) -> None:
        for connection in list(self.open):
            connection.drop()

    def _accepted(self) -> Pipe:
        self.connections += 1
        connection = Connection(self.target, self._rule, self.open.discard)
        if self._refusing:
            connection.drop()
        else:
            self.open.add(connection)
        return connection.pipes["up"]
