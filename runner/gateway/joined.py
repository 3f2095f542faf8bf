"""Head and body of an answer in one write.

Each write is a system call, which costs more than all else that this process does for an answer.
"""

from __future__ import annotations

import asyncio

_HEAD, _LENGTH = b"HTTP/1.", b"\r\ncontent-length: "


class Joined:
    """The transport of one connection, as uvicorn writes answers to it.

    A head with the length of its body is held back until the body comes, which is at once. The head of an answer that is sent in
    parts has no length, and is not held back.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write the data, or hold it back until the rest comes."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD) and _LENGTH in data:
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """End an answer: write a head that no body follows, as for a HEAD request."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def is_closing(self) -> bool:
        """Whether the connection is closing."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Write the held data, and close the connection."""
        self.flush()
        self._transport.close()
