"""A port of 127.0.0.1 that outlives a restart.

Below the ephemeral range on purpose: while a server is down, a client that keeps dialling its ephemeral port can be
given that very port as its own source port, connect to itself, and keep the server from coming back.
"""

from __future__ import annotations

import os
import random
import socket

LOW, HIGH = 10_000, 30_000
_luck = random.Random(os.urandom(8))  # not the module's: a reseeded one would hand every test the same ports


def free_port() -> int:
    """A port that nothing listens on just now."""
    while True:
        port = _luck.randrange(LOW, HIGH)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
