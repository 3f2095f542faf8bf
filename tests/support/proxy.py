"""A TCP proxy between a client and a server, whose wire a test may cut, freeze and slow down."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskGroup


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`, until a test interferes; open it with `Proxy.to`.

    It keeps the port while it is cut, so a client that reconnects finds it again.
    """

    def __init__(self, target: int, tasks: TaskGroup) -> None:
        self.target = target
        self.port = 0
        self.connections = 0  # accepted so far, so that a test can wait for a reconnect
        self._tasks = tasks
        self._open: set[SocketStream] = set()
        self._flowing = anyio.Event()
        self._flowing.set()
        self._refusing = False

    @staticmethod
    @asynccontextmanager
    async def to(target: int) -> AsyncIterator[Proxy]:
        """A proxy to a port of 127.0.0.1 for the length of the block."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            proxy = Proxy(target, tasks)
            proxy.port = listener.extra(SocketAttribute.local_port)
            tasks.start_soon(listener.serve, proxy._serve, tasks)
            try:
                yield proxy
            finally:
                tasks.cancel_scope.cancel()
                await proxy._drop()

    @property
    def url(self) -> str:
        """`nats://127.0.0.1:PORT` of the proxy."""
        return f"nats://127.0.0.1:{self.port}"

    async def cut(self, *, refuse: bool = False) -> None:
        """Break every connection now; with `refuse`, new ones break too until `mend`."""
        self._refusing = refuse
        await self._drop()

    async def mend(self) -> None:
        """Let connections through again, cut or frozen before."""
        self._refusing = False
        self._flowing.set()

    def freeze(self) -> None:
        """Hold every byte in both directions: connections stay open and silent, new ones too."""
        self._flowing = anyio.Event()

    def thaw(self) -> None:
        """Let the held bytes go on."""
        self._flowing.set()

    async def _drop(self) -> None:
        for stream in list(self._open):
            raw = stream.extra(SocketAttribute.raw_socket)
            with contextlib.suppress(OSError):
                raw.shutdown(2)  # SHUT_RDWR: both ends see it at once
            with anyio.CancelScope(shield=True):
                await stream.aclose()
        self._open.clear()

    async def _serve(self, client: SocketStream) -> None:
        self.connections += 1
        async with client:
            if self._refusing:
                return
            try:
                server = await anyio.connect_tcp("127.0.0.1", self.target)
            except OSError:
                return
            async with server:
                ends = {client, server}
                self._open |= ends
                try:
                    async with anyio.create_task_group() as both:
                        both.start_soon(self._forward, client, server, both)
                        both.start_soon(self._forward, server, client, both)
                finally:
                    self._open -= ends

    async def _forward(self, source: SocketStream, sink: SocketStream, both: TaskGroup) -> None:
        with contextlib.suppress(
            anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError
        ):
            while True:
                chunk = await source.receive()
                await self._flowing.wait()
                await sink.send(chunk)
        both.cancel_scope.cancel()
