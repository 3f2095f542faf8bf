"""The line between a worker and the process that started it: one word a line; if the line ends, the other process is gone.

A worker that reloads says `reads <folder>` for each folder outside the project that it has read code from, even if its code fails.
It says `loaded` once its code is imported and every function has its stream, waits for `go`, and says `ready` once it takes
messages. It is told `stop` to drain, and `stop` again to cancel running handlers. A worker does not count signals, because a signal
to the whole process group reaches it twice: once directly and once through its parent.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

READS = b"reads "
LOADED = b"loaded\n"
GO = b"go\n"
READY = b"ready\n"
STOP = b"stop\n"


class Parent:
    """The worker's end of the line."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._words = b""

    def reads(self, folders: Iterable[str]) -> None:
        """Name the folders that code was read from."""
        for folder in folders:
            if "\n" not in folder:
                self._say(READS + os.fsencode(folder) + b"\n")

    async def loaded(self) -> bool:
        """Say that the worker has loaded, and wait for `go`; False if the parent is gone."""
        self._say(LOADED)
        loop = asyncio.get_running_loop()
        while b"\n" not in self._words:
            try:
                heard = await loop.sock_recv(self._socket, 64)
            except OSError:
                return False
            if not heard:
                return False
            self._words += heard
        return self._next() == GO

    def ready(self) -> None:
        """Say that the worker takes messages."""
        self._say(READY)

    def listen(self, asked: Callable[[], None], gone: Callable[[], None]) -> None:
        """Call `asked` in the running loop at each `stop`, and `gone` once when the parent has ended, however it ended."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            while b"\n" in self._words:
                if self._next() == STOP:
                    asked()

        def readable() -> None:
            try:
                heard = self._socket.recv(64)
            except BlockingIOError:
                return
            except OSError:
                heard = b""
            if not heard:
                loop.remove_reader(self._socket)
                gone()
            self._words += heard
            tell()

        loop.add_reader(self._socket, readable)
        tell()

    def _next(self) -> bytes:
        word, end, self._words = self._words.partition(b"\n")
        return word + end

    def _say(self, word: bytes) -> None:
        with suppress(OSError):  # the parent is gone: `loaded` and `listen` find out
            self._socket.send(word)
