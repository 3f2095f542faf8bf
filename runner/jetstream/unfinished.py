"""A frame that has come only in part. Its rest is awaited and joined once, so that a large body costs linear time."""

from __future__ import annotations

from nats.errors import ProtocolError


class Unfinished:
    """The unfinished frame of one connection; `chunks` is empty between frames."""

    def __init__(self, begun: bytes = b"") -> None:
        self.chunks = [begun] if begun else []
        self._have = len(begun)
        self._need = 0

    def clear(self) -> None:
        """Forget the frame, because the connection is another one."""
        self.chunks = []
        self._have = self._need = 0

    def keep(self, rest: bytes, need: int) -> None:
        """Keep the beginning of a frame of `need` bytes. Raises ProtocolError if the frame would end before it began."""
        if need <= len(rest):
            raise ProtocolError("nats: malformed MSG")
        self.chunks = [rest]
        self._have, self._need = len(rest), need

    def joined(self, data: bytes) -> bytes:
        """The whole frame with the new data; empty while that is not enough."""
        self.chunks.append(data)
        self._have += len(data)
        if self._have < self._need:
            return b""
        whole = b"".join(self.chunks)
        self.chunks = []
        return whole
