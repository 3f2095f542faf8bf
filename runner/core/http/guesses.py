"""Failed authentications by client: a client that has shown too many wrong keys has to wait, whatever it shows next.

Rule 1: each failure counts one, and `most` failures are forgotten in a minute. A client that has `most` waits until one is forgotten.
Rule 2: for IPv6 a network of 64 bits is one client, because a single household has all its addresses.
Rule 3: at most `PLACES` clients are remembered. For one more, the client that failed longest ago is forgotten.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address

PLACES = 10_000
MINUTE = 60.0


class Guesses:
    """The wrong keys that clients have shown to one process."""

    def __init__(self, most: int) -> None:
        """`most` is how many failures a client may have a minute; 0: no limit."""
        self._most = most
        self._failures: dict[str, tuple[float, float]] = {}
        """By client, the failures that count and the time of that count; the client that failed last is at the end."""

    def wait(self, client: str, now: float) -> float:
        """Seconds until this client may try again; 0.0: it may now."""
        if not self._failures:
            return 0.0
        return max(0.0, (self._count(_one(client), now) - self._most + 1) * MINUTE / self._most)

    def failed(self, client: str, now: float) -> None:
        """Count a failure of this client."""
        if not self._most:
            return
        name = _one(client)
        count = self._count(name, now) + 1
        self._failures.pop(name, None)
        if len(self._failures) >= PLACES:
            del self._failures[next(iter(self._failures))]
        self._failures[name] = (count, now)

    def _count(self, name: str, now: float) -> float:
        count, at = self._failures.get(name, (0.0, now))
        return max(0.0, count - (now - at) * self._most / MINUTE)


def _one(client: str) -> str:
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if not isinstance(address, IPv6Address):
        return client
    return str(address.ipv4_mapped or IPv6Network((int(address), 64), strict=False).network_address)
