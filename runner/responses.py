"""Responses of functions with `@route`: what a handler returned, as status, headers and body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from runner import codec
from runner.core.redaction import MSGPACK

JSON, TEXT, BYTES = "application/json", "text/plain; charset=utf-8", "application/octet-stream"
EVENTS = "text/event-stream"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LINES = re.compile(rb"\r\n|\r|\n")
_FRAMING = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers that say how a body is sent: the gateway sets them."""


class Response(Struct, frozen=True):
    """What a function with `@route` may return, to set status and headers besides the body."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = {}
    """A `Content-Type` in them takes the place of the one that follows from the body."""


class Rendered(Struct, frozen=True):
    """A response as it is sent."""

    status: int
    body: bytes = b""
    kind: str = ""
    """The body's content type; empty without a body."""
    headers: tuple[tuple[str, str], ...] = ()


def rendered(result: Any, *, msgpack: bool = False) -> Rendered:
    """The response that follows from a handler's result; with `msgpack` its body is MessagePack, not JSON. Raises ValueError."""
    if isinstance(result, Response):
        return _of_response(result, msgpack=msgpack)
    if result is None:
        return Rendered(204)
    body = codec.encode(result, msgpack=msgpack)
    if isinstance(result, str):
        return Rendered(200, body, TEXT)
    if isinstance(result, (bytes, bytearray, memoryview)):
        return Rendered(200, body, BYTES)
    return Rendered(200, body, MSGPACK if msgpack else JSON)


def _of_response(given: Response, *, msgpack: bool) -> Rendered:
    plain = rendered(given.body, msgpack=msgpack) if given.body is not None else Rendered(204)
    status = given.status
    if type(status) is not int or not 200 <= status <= 599:
        raise ValueError(f"status={status!r} is not a status of a response, from 200 to 599")
    if plain.body and status in (204, 304):
        raise ValueError(f"a response with status {status} has no body")
    kind, headers = plain.kind, []
    told: Any = given.headers  # its type is not checked yet
    if not isinstance(told, Mapping):
        raise ValueError(f"headers of type {type(told).__name__} are no mapping of names to texts")
    for name, value in told.items():
        if not isinstance(name, str) or not isinstance(value, str):
            kinds = f"{type(name).__name__} and {type(value).__name__}"
            raise ValueError(
                f"header {name!r:.100} cannot be sent: name and value are {kinds}, and have to be str"
            )
        lower = name.lower()
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(
                f"header {name!r} cannot be sent: its name or its value has characters that HTTP refuses"
            )
        if lower in _FRAMING:
            raise ValueError(f"header {name!r} is the gateway's to set")
        if lower == "content-type":
            kind = value
        else:
            headers.append((lower, value))
    return Rendered(status, plain.body, kind, tuple(headers))


def event(item: Any) -> bytes:
    """An item of a generator as a server-sent event: text as it is, everything else as JSON. Raises EncodeError."""
    data = codec.encode(item)
    return b"".join(b"data: %b\n" % line for line in _LINES.split(data)) + b"\n"


def failure_event(body: bytes) -> bytes:
    """The server-sent event that tells a client that the function has failed; `body` is one line."""
    return b"event: error\ndata: %b\n\n" % body
