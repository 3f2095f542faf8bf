"""The line between a worker and the process that started it: one word a line, and its end means "nobody is there".

The worker says `loaded` once its code is imported and every function has its stream, waits for `go`, and says `ready`
once it takes messages.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

LOADED = b"loaded\n"
GO = b"go\n"
READY = b"ready\n"


class Parent:
    """The worker's end."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)

    async def loaded(self) -> bool:
        """Say that nothing stands in the way, and wait until told to go; False when the parent is gone."""
        self._say(LOADED)
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, len(GO)) == GO
        except OSError:
            return False

    def ready(self) -> None:
        """Say that messages are taken."""
        self._say(READY)

    def when_gone(self, callback: Callable[[], None]) -> None:
        """Call back once in the running loop when the parent has ended, however it ended."""
        loop = asyncio.get_running_loop()

        def readable() -> None:
            loop.remove_reader(self._socket)
            callback()

        loop.add_reader(self._socket, readable)

    def _say(self, word: bytes) -> None:
        with suppress(OSError):  # gone: `loaded` and `when_gone` find out
            self._socket.send(word)
