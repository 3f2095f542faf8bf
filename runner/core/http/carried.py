"""Headers of an HTTP request as a NATS message carries them.

Rule 1: names keep their lower case. Headers that are about client and gateway alone are not carried: hop-by-hop headers, those
        that `Connection` names, `Host`, `Content-Length`, `Expect`. Nor are headers of traces, which the gateway writes anew.
Rule 2: no client can write a header of the server's or of ours: `Nats-*` and `Jetrunner-*` are dropped, in any case of letters.
Rule 3: a header is dropped if its value has a line break or NUL, or its name is not a token; the connection refuses it before.
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
"""Headers that concern one connection, by RFC 9110."""
_LEFT_OUT = HOPS | {
    b"host", b"content-length", b"expect", b"traceparent", b"tracestate", b"baggage", b"idempotency-key",
}  # fmt: skip
_RESERVED = (b"nats-", b"jetrunner-")
LONGEST_KNOWN = 64
"""Most bytes of a name that is remembered: with longer ones, clients could fill the memory."""
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_UNFIT = re.compile(rb"[\x00\r\n]")


def lines(headers: Pairs, more: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Write the headers of a request as lines of a NATS header block; `more` are the gateway's own headers."""
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
    """Write the beginning of a header's line, up to its value; empty for a header that is not carried."""
    if name in _LEFT_OUT or name.startswith(_RESERVED) or _NAME.fullmatch(name) is None:
        return b""
    return name + b": "


_begun = lru_cache(maxsize=1_024)(_begin)  # the same names come all the time


def _text(value: bytes) -> bytes:
    """Give a value as UTF-8, as NATS expects it: other bytes are read as Latin-1, as HTTP used to have it."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1").encode()
    return value


def asked(method: str, path: bytes, query: bytes, host: bytes) -> list[tuple[bytes, bytes]]:
    """Make the gateway's own headers: method, path, query and host of the request."""
    found = [(_METHOD, method.encode()), (_PATH, path), (_HOST, host)]
    if query:
        found.insert(2, (_QUERY, query))
    return found


def _named(headers: Pairs) -> frozenset[bytes]:
    """The headers that `Connection` names, which are for this connection alone."""
    told = [value for name, value in headers if name == b"connection"]
    return frozenset([each.strip(b" \t").lower() for value in told for each in value.split(b",")])
