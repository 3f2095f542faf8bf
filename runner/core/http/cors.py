"""CORS: the headers that tell a browser which pages may ask.

Rule 1: a request with an `Origin` that may not ask is answered all the same, but without headers of CORS: the browser then keeps
        the answer from the page.
Rule 2: the answer names the origin, not `*`, unless all may ask and none sends credentials. With a named origin it has
        `Vary: Origin`, so that no cache gives one origin's answer to another.
Rule 3: a preflight is an OPTIONS with `Origin` and `Access-Control-Request-Method`. It is answered before any authentication,
        because browsers send no credentials with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from runner.core.http.caller import single

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\*\.)?[a-z0-9.:_\[\]-]+")
_LABELS = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LIST = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]+")

Pairs: TypeAlias = Sequence[tuple[bytes, bytes]]


class Cors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which pages of other origins may ask, and how."""

    origins: tuple[str, ...]
    """Origins such as `https://app.example.com`, or `https://*.example.com` for all below it; `*` alone stands for all."""
    methods: tuple[str, ...] = ()
    """Methods in a preflight's answer; empty: the method that the preflight asks for, which the route has."""
    headers: tuple[str, ...] = ()
    """Headers that a page may send beyond the simple ones; `*` alone stands for all."""
    expose: tuple[str, ...] = ()
    """Headers of the response that a page may read."""
    credentials: bool = False
    """Whether a page may send cookies; never with the origin `*`."""
    max_age: int = 600
    """Seconds that a browser may remember a preflight's answer."""

    def __post_init__(self) -> None:
        """ValueError says in one sentence what is wrong."""
        if not self.origins:
            raise ValueError("origins: name who may ask")
        for origin in self.origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"origins: {origin!r} is not an origin as https://app.example.com, without a path"
                )
        if self.credentials and "*" in self.origins:
            raise ValueError("credentials: with the origin * every page could ask in the name of its reader")
        for field, words in (("methods", self.methods), ("headers", self.headers), ("expose", self.expose)):
            if wrong := [word for word in words if not _TOKEN.fullmatch(word)]:
                raise ValueError(f"{field}: {wrong[0]!r} is not a word")
        if not 0 <= self.max_age <= 86_400:
            raise ValueError("max_age is from 0 to 86,400 seconds")

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may ask."""
        for known in self.origins:
            if known in ("*", origin):
                return True
            scheme, star, domain = known.partition("://*")
            if star and origin.startswith(f"{scheme}://") and origin.endswith(domain):
                below = origin[len(scheme) + len("://") : -len(domain)]
                return _LABELS.fullmatch(below) is not None
        return False


def requested_method(method: str, headers: Pairs) -> str | None:
    """The method that a preflight asks for; None when the request is not a preflight."""
    if method != "OPTIONS" or single(headers, b"origin") is None:
        return None
    asked = single(headers, b"access-control-request-method")
    return asked.decode("latin-1") if asked and _TOKEN.fullmatch(asked.decode("latin-1")) else None


def answered(cors: Cors, headers: Pairs) -> list[tuple[bytes, bytes]]:
    """Make the headers for the response to a request that is not a preflight."""
    found = _allowed(cors, headers)
    if found and cors.expose:
        found.append((b"access-control-expose-headers", _joined(cors.expose)))
    return found if "*" in cors.origins else [*found, (b"vary", b"origin")]


def preflight(cors: Cors, headers: Pairs) -> list[tuple[bytes, bytes]]:
    """Make the headers for the answer to a preflight, which is 204 without a body."""
    found = _allowed(cors, headers)
    if found:
        asked = requested_method("OPTIONS", headers) or ""
        methods = _joined(cors.methods) if cors.methods and "*" not in cors.methods else asked.encode()
        found.append((b"access-control-allow-methods", methods))
        wanted = single(headers, b"access-control-request-headers")
        if "*" not in cors.headers:
            wanted = _joined(cors.headers)
        # With credentials browsers take * for a header of that name, so the answer repeats the requested headers.
        if wanted and _LIST.fullmatch(wanted):
            found.append((b"access-control-allow-headers", wanted))
        found.append((b"access-control-max-age", str(cors.max_age).encode()))
    vary = b"origin, access-control-request-method, access-control-request-headers"
    return [*found, (b"vary", vary)]


def _allowed(cors: Cors, headers: Pairs) -> list[tuple[bytes, bytes]]:
    """Make the headers that allow a page to ask; empty when it may not."""
    given = single(headers, b"origin")
    if given is None or not cors.allows(given.decode("latin-1")):
        return []
    if "*" in cors.origins:
        return [(b"access-control-allow-origin", b"*")]
    found = [(b"access-control-allow-origin", given)]
    if cors.credentials:
        found.append((b"access-control-allow-credentials", b"true"))
    return found


def _joined(words: tuple[str, ...]) -> bytes:
    return ", ".join(words).encode()
