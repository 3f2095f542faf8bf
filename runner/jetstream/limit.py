"""Which texts are subjects that the server takes, by their characters and their length.

A control line that is too long for the server ends the connection, and nats-py would then close for good. The server does not tell
its limit (4,096 bytes unless configured), so a smaller one is learned when it is exceeded.
"""

from __future__ import annotations

import logging

from runner.core import subject as subjects

log = logging.getLogger("jetrunner.wire")

EXCEEDED = b"-ERR 'maximum control line"
LEAST = 128
"""Our own requests need more bytes than this: a server that takes fewer cannot be used."""


class Limit:
    """The longest subject that the server takes on one connection."""

    def __init__(self) -> None:
        self.longest = subjects.LONGEST
        """Longest subject, in bytes."""

    def require(self, subject: bytes, reply: bytes = b"") -> None:
        """Raise ValueError unless subject and reply fit into a control line."""
        if why := subjects.wire_problem(subject, reply, self.longest):
            raise ValueError(f"cannot publish to {subject[:80]!r}: {why}")

    def exceeded(self, frame: bytes) -> bool:
        """Whether this frame says that the limit was exceeded, and a smaller one can be tried; the server now ends the connection."""
        if not frame.startswith(EXCEEDED) or self.longest <= LEAST:
            return False
        self.longest //= 2
        log.error(
            "the server refuses control lines of that length; subjects may have %d bytes at most from now on",
            self.longest,
        )
        return True
