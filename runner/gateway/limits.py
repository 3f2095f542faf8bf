"""Limits to what one client may cost: sizes, counts and times."""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of one gateway process."""

    head_bytes: int = 32 * 1024
    """Most bytes of the request line and all headers."""
    headers: int = 100
    head_seconds: float = 10.0
    """Longest time from the first byte of a head, or the beginning of the connection, to the end of the head."""
    body_bytes: int = 1024 * 1024
    body_seconds: float = 10.0
    """Time that a body may take, in addition to its size divided by `body_rate`."""
    body_rate: int = 1024
    """Least rate at which a client must send a body, in bytes a second."""
    idle_seconds: float = 60.0
    """Longest time between two requests of a connection."""
    requests: int = 10_000
    """Most requests on one connection; the last is answered with `Connection: close`."""
    pipelined: int = 32
    """Most requests that may be here before the first is answered."""
    connections: int = 10_000
    linger_seconds: float = 2.0
    """How long data that a client still sends after a refusal is read and dropped, so that the client sees the answer."""
    unread_seconds: float = 30.0
    """A client that has read nothing of its answer for so long is cut off."""
    unread_leaving_seconds: float = 5.0
    """The same limit while the process ends."""
