"""Headers of an HTTP request as they stand in a NATS message.

Rule 1: names keep their lower case. What is between client and gateway alone stays there: hop-by-hop headers, those that
        `Connection` names, `Host`, `Content-Length`, `Expect`; so does what says of traces, which the gateway tells anew.
Rule 2: no client writes a header of the server's or of ours: `Nats-*` and `Jetrunner-*` are dropped, in any case of letters.
Rule 3: a value with a line break or NUL, and a name that is no token, is dropped, though the connection has refused it before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

Pairs: TypeAlias = Sequence[tuple[bytes, bytes]]

METHOD, PATH, QUERY, HOST, CALLER, AUTH = (
    "Jetrunner-Http-Method", "Jetrunner-Http-Path", "Jetrunner-Http-Query", "Jetrunner-Http-Host", "Jetrunner-Http-Caller",
    "Jetrunner-Http-Auth",
)  # fmt: skip
_METHOD, _PATH, _QUERY, _HOST = METHOD.encode(), PATH.encode(), QUERY.encode(), HOST.encode()

HOPS = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""Headers of one connection, as RFC 9110 has them."""
_LEFT_OUT = HOPS | {
    b"host", b"content-length", b"expect", b"traceparent", b"tracestate", b"baggage", b"idempotency-key",
}  # fmt: skip
_RESERVED = (b"nats-", b"jetrunner-")
LONGEST_KNOWN = 64
"""Bytes of a name that is remembered: longer ones would be a way to fill the memory."""
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_UNFIT = re.compile(rb"[\x00\r\n]")


def lines(headers: Pairs, more: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Write the headers of a request as lines of a NATS header block; `more` are those of the gateway's own."""
    named = _named(headers)
    found: list[bytes] = []
    for name, value in headers:
        begun = _begun(name) if len(name) <= LONGEST_KNOWN else _begin(name)
        if begun and name not in named and _UNFIT.search(value) is None:
            kept = value.strip(b" \t")
            found += begun, kept if kept.isascii() else _text(kept), b"\r\n"
    for name, value in more:
        found += name, b": ", value if _UNFIT.search(value) is None else _UNFIT.sub(b"", value), b"\r\n"
    return b"".join(found)


def _begin(name: bytes) -> bytes:
    """What stands before the value of a header; empty of one that stays here."""
    if name in _LEFT_OUT or name.startswith(_RESERVED) or _NAME.fullmatch(name) is None:
        return b""
    return name + b": "


_begun = lru_cache(maxsize=1_024)(_begin)  # the same names come all the time


def _text(value: bytes) -> bytes:
    """A value as UTF-8, as NATS has it: bytes that are not are Latin-1, as HTTP once had it."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1").encode()
    return value


def asked(method: str, path: bytes, query: bytes, host: bytes) -> list[tuple[bytes, bytes]]:
    """Tell what was asked, as the gateway's own headers."""
    found = [(_METHOD, method.encode()), (_PATH, path), (_HOST, host)]
    if query:
        found.insert(2, (_QUERY, query))
    return found


def _named(headers: Pairs) -> frozenset[bytes]:
    """The headers that `Connection` says are of this connection."""
    told = [value for name, value in headers if name == b"connection"]
    return frozenset([each.strip(b" \t").lower() for value in told for each in value.split(b",")])
