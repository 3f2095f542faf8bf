"""nats-py's socket, where a write to one that is closed is a lost connection.

uvloop raises RuntimeError there, which nats-py takes for a loop that has ended: the task that reconnects would end for good.
asyncio's own loop drops what is written, and `drain` tells.
"""

from __future__ import annotations

from typing import Any

from nats.aio.transport import TcpTransport


class LosingTransport(TcpTransport):
    """A TCP connection whose writes raise ConnectionResetError once it is closed."""

    def __bool__(self) -> bool:
        """True before it connects, too: nats-py puts its own in the place of one that is false."""
        return True

    def write(self, payload: bytes) -> Any:
        """Write bytes. Raises ConnectionResetError."""
        try:
            return super().write(payload)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ConnectionResetError("the connection is closed") from error

    def writelines(self, payload: list[bytes]) -> Any:
        """Write many bytes. Raises ConnectionResetError."""
        try:
            return super().writelines(payload)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ConnectionResetError("the connection is closed") from error
