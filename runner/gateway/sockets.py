"""Listening sockets: the process that lives longest makes them, so that no connection is lost when other processes come and go."""

from __future__ import annotations

import socket

from runner.errors import SettingsError

BACKLOG = 2_048


def bound(address: str) -> socket.socket:
    """A socket that listens on HOST:PORT. Raises SettingsError."""
    host, _, port = address.rpartition(":")
    try:
        [family, kind, proto, _, place] = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, proto)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"HTTP cannot listen on {address}: {error}", hint="choose a free HOST:PORT"
        ) from None
    listening.setblocking(False)
    return listening


def handed(descriptor: int) -> socket.socket:
    """The socket that another process has handed over to this one."""
    listening = socket.socket(fileno=descriptor)
    listening.setblocking(False)
    return listening
