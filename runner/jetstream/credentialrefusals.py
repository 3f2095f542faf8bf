"""Credentials that the server no longer takes: how long the runner waits for new ones."""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.jetstream.credentials import Credentials

REFUSED_SECONDS = 10.0
"""The same credentials are refused for so long before the connection is closed for good."""
GAP_SECONDS = 5.0
"""After so long without a refusal the time starts again, because the server was away."""
EXPELLED = ("authorization violation", "authentication expired", "authentication revoked")
"""The server's words to a client whose credentials it does not take, or no longer takes."""


class CredentialRefusals:
    """The refusals of one connection, from the moment that the server has ended it for its credentials until it stands again.

    Refusals during an outage do not count: a server that comes back with other users may be repaired, so it is tried for as long as
    that takes.
    """

    def __init__(self, credentials: Credentials, give_up: Callable[[], None]) -> None:
        self._credentials = credentials
        self._give_up = give_up
        self._expelled = False
        self._since = self._last = 0.0
        self._digest = b""

    def heard(self, text: str, *, connected: bool) -> None:
        """Take in an error of the server, on a connection that stands or on its way to one."""
        if not any(words in text.lower() for words in EXPELLED) or not (connected or self._expelled):
            return
        now, digest = time.monotonic(), self._credentials.digest
        if connected or digest != self._digest or now - self._last > GAP_SECONDS:
            self._since, self._digest = now, digest
        self._expelled, self._last = True, now
        if now - self._since >= REFUSED_SECONDS:
            self._give_up()

    def over(self) -> None:
        """Note that the connection stands again."""
        self._expelled = False
