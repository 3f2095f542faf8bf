"""Trusted proxies: the client's address and the scheme of a request, as the proxies in front report them.

Rule 1: headers of any other connection are not believed: its own address is the client's, and the scheme is http.
Rule 2: in `X-Forwarded-For` the last address counts that is not a trusted proxy's. Each proxy adds the address that it sees at the
        end, and the client may have written the addresses before. At a text that is not an address, the one read before it counts.
Rule 3: of `X-Forwarded-Proto` the last value counts, which is that of the nearest proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

FOR, PROTO = b"x-forwarded-for", b"x-forwarded-proto"
_KEPT = 4_096
"""Most addresses that are remembered as trusted or not."""


class Proxies:
    """The trusted proxies of one gateway."""

    def __init__(self, networks: Iterable[str]) -> None:
        """`networks` are addresses or networks, such as 10.0.0.0/8. Raises ValueError."""
        self._networks = tuple(ip_network(each) for each in networks)
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def seen(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> tuple[str, str]:
        """The client's address, and the scheme that the client has used, for a request that came from `peer`."""
        if not self._trusts(peer):
            return peer, "http"
        proto = _last(headers, PROTO)
        return self._client(peer, headers), "https" if proto[-1:] == [b"https"] else "http"

    def _client(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        found = peer
        for each in reversed(_last(headers, FOR)):
            address = _address(each.decode("latin-1"))
            if not address:
                break
            found = address
            if not self._trusts(address):
                break
        return found

    def _trusts(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            known = self._known[address] = self._is_one(address)
        return known

    def _is_one(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)


def _last(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The values of a header, in all its lines."""
    return [each.strip().lower() for key, value in headers if key == name for each in value.split(b",")]


def _address(text: str) -> str:
    """An address as it is compared and shown, without port and brackets; empty when the text is not an address."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return ""
