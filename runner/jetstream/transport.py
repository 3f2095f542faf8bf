"""nats-py's socket; a write to a closed one counts as a lost connection.

uvloop raises RuntimeError at such a write. nats-py takes that for the end of the loop, and would never reconnect. asyncio's own
loop drops the data, and `drain` raises.
"""

from __future__ import annotations

from typing import Any

from nats.aio.transport import TcpTransport


class LosingTransport(TcpTransport):
    """A TCP connection whose writes raise ConnectionResetError once it is closed."""

    def __bool__(self) -> bool:
        """True also before it connects: nats-py replaces a transport that is false by its own."""
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
