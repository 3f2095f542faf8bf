"""Which texts are subjects that the server takes: their characters and their length.

A control line that is longer than the server takes ends the connection, and nats-py then closes for good. The server does
not tell its limit (4,096 bytes unless configured), so a smaller one is learned when it is met.
"""

from __future__ import annotations

import logging

from runner.core import subject as subjects

log = logging.getLogger("jetrunner.wire")

EXCEEDED = b"-ERR 'maximum control line"
LEAST = 128
"""Our own requests need more; a server that takes less is not for us."""


class Limit:
    """Of one connection."""

    def __init__(self) -> None:
        self.longest = subjects.LONGEST
        """Bytes of a subject, at most."""

    def require(self, subject: bytes, reply: bytes = b"") -> None:
        """Raise ValueError unless these can stand in a control line."""
        if why := subjects.wire_problem(subject, reply, self.longest):
            raise ValueError(f"cannot publish to {subject[:80]!r}: {why}")

    def exceeded(self, frame: bytes) -> bool:
        """Whether the server says so with this frame, and less will do; it ends the connection now."""
        if not frame.startswith(EXCEEDED) or self.longest <= LEAST:
            return False
        self.longest //= 2
        log.error(
            "the server takes no control line of that length; subjects have %d bytes at most now",
            self.longest,
        )
        return True
