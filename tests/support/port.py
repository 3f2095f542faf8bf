"""A port of 127.0.0.1 that outlives a restart.

Below the ephemeral range on purpose: while a server is down, a client that keeps dialling its ephemeral port can be
given that very port as its own source port, connect to itself, and keep the server from coming back.

A port is held by a lock for a while: a server of a cluster listens some milliseconds after its port was
chosen, and again after a restart, and tests run in several processes at once.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections import deque
from pathlib import Path

LOW, HIGH = 10_000, 20_000  # `runner dev` takes its ports from 20,000 on
_luck = random.Random(os.urandom(8))  # not the module's: a reseeded one would hand every test the same ports
HELD = 200
"""Ports that a process holds at most: the servers of older ones are gone, and each costs an open file."""
_held: deque[int] = deque()
"""Open files, each with the lock of a port; the oldest first."""


def free_port(count: int = 1) -> int:
    """A port that nothing listens on, and that no other test is given until this process has asked for 200 more.

    With `count`, the first of so many ports in a row.
    """
    while True:
        port = _luck.randrange(LOW, HIGH)
        if all(_is_free(each) and _is_ours(each) for each in range(port, port + count)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _is_ours(port: int) -> bool:
    directory = Path(tempfile.gettempdir()) / f"jetrunner-ports-{os.getuid()}"
    directory.mkdir(exist_ok=True)
    file = os.open(directory / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _held.append(file)
    if len(_held) > HELD:
        os.close(_held.popleft())
    return True
