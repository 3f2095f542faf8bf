"""Head and body of an answer in one write: each write is a call of the system, which costs more than all that this process does for an answer."""

from __future__ import annotations

import asyncio

_HEAD, _LENGTH = b"HTTP/1.", b"\r\ncontent-length: "


class Joined:
    """The transport of one connection, as uvicorn writes answers to it.

    A head that tells the length of its body is kept until that comes, which is at once. One of an answer whose parts come one by one tells none.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write it, or keep it for what follows."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD) and _LENGTH in data:
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """The answer is whole: write a head that no body follows, as to a HEAD request."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def is_closing(self) -> bool:
        """Whether the connection ends."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Write what is kept, and end the connection."""
        self.flush()
        self._transport.close()
