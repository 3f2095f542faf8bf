"""What one client may cost: sizes, counts and times."""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """Of one gateway process."""

    head_bytes: int = 32 * 1024
    """Of the request line and all headers."""
    headers: int = 100
    head_seconds: float = 10.0
    """From the first byte of a head, or the connection's beginning, to its end."""
    body_bytes: int = 1024 * 1024
    body_seconds: float = 10.0
    """Time that a body may take besides what `body_rate` gives it."""
    body_rate: int = 1024
    """Bytes a second that a client sends at least."""
    idle_seconds: float = 60.0
    """Longest time between two requests of a connection."""
    requests: int = 10_000
    """Of one connection; the last is answered with `Connection: close`."""
    pipelined: int = 32
    """Requests that may be here before the first is answered."""
    connections: int = 10_000
    linger_seconds: float = 2.0
    """After a refusal, what a client still sends is read and dropped for so long, so that it sees the answer."""
    unread_seconds: float = 30.0
    """A client that has read nothing of its answer for so long is cut off."""
    unread_leaving_seconds: float = 5.0
    """The same while the process ends."""
