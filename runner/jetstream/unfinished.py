"""A frame of which a part has come; the rest is waited for, and joined once: a large body costs linear time."""

from __future__ import annotations

from nats.errors import ProtocolError


class Unfinished:
    """What one connection has not finished to send; `chunks` is empty between frames."""

    def __init__(self, begun: bytes = b"") -> None:
        self.chunks = [begun] if begun else []
        self._have = len(begun)
        self._need = 0

    def clear(self) -> None:
        """The connection is another one."""
        self.chunks = []
        self._have = self._need = 0

    def keep(self, rest: bytes, need: int) -> None:
        """Wait until there are `need` bytes. Raises ProtocolError for a frame that ends before it began."""
        if need <= len(rest):
            raise ProtocolError("nats: malformed MSG")
        self.chunks = [rest]
        self._have, self._need = len(rest), need

    def joined(self, data: bytes) -> bytes:
        """All of it with what came now; empty before that is enough."""
        self.chunks.append(data)
        self._have += len(data)
        if self._have < self._need:
            return b""
        whole = b"".join(self.chunks)
        self.chunks = []
        return whole
