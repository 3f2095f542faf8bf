"""One request of a client while it is answered: its head, and its body once that is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from runner.core.http.caller import Caller
from runner.core.http.carried import Pairs
from runner.gateway.httprequest import Http
from runner.telemetry.httpspans import HttpSpan

Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
Kind: TypeAlias = Literal["json", "msgpack", "other"]


class Gone(Exception):  # noqa: N818  named by what happened
    """The client has gone before its request was whole."""


class TooLong(Exception):  # noqa: N818  the same
    """The body is longer than the route allows; it was read to its end and dropped."""


class NoRoom(Exception):  # noqa: N818  the same
    """All bodies in this process together have reached their limit."""


class Room:
    """Limits the bytes that the bodies of all requests of this process have together."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size
        """The bytes that are still free."""


class Exchange:
    """One request, and the body once it is read; made for each request."""

    __slots__ = (
        "_body", "_held", "_room", "caller", "client", "given", "headers", "host", "identity", "method", "path", "query", "receive", "scheme", "span", "traces",
    )  # fmt: skip

    def __init__(self, scope: Any, receive: Receive, room: Room) -> None:
        self.method: str = scope["method"]
        self.path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.headers: Pairs = scope["headers"]
        self.given = dict(self.headers)
        """The last value of each header, by name."""
        self.host = self.given.get(b"host", b"")
        self.scheme: str = scope["scheme"]
        peer = scope["client"]
        self.client: str = peer[0] if peer else ""
        """The client's address: that of the connection, unless a trusted proxy tells another."""
        self.receive = receive
        self.identity = b""
        """The request's id: the client's own, or a new one."""
        self.span: HttpSpan | None = None
        self.traces = b""
        """The header lines that carry the trace on."""
        self.caller: Caller | None = None
        self._body: bytes | None = None
        self._room, self._held = room, 0

    @property
    def block(self) -> bytes | None:
        """The trace headers as a NATS header block; None if there are none."""
        if b"traceparent" not in self.given:
            return None
        lines = [
            b"%b: %b\r\n" % (name, value)
            for name, value in self.headers
            if name in (b"traceparent", b"tracestate", b"baggage")
        ]
        return b"NATS/1.0\r\n" + b"".join(lines) + b"\r\n"

    @property
    def kind(self) -> Kind:
        """The kind of the body, by its `Content-Type`."""
        return _kind(self.given.get(b"content-type", b""))

    @property
    def has_body(self) -> bool:
        """Whether a body follows the headers."""
        given = self.given
        return given.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in given

    async def body(self, limit: int | None) -> bytes:
        """The whole body. Raises TooLong if it has more than `limit` bytes, NoRoom, and Gone."""
        if self._body is None:
            self._body = await self._read(limit) if self.has_body else b""
        return self._body

    async def _read(self, limit: int | None) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] != "http.request":
                raise Gone
            size += len(message["body"])
            if limit is None or size <= limit:
                self._hold(len(message["body"]))
                parts.append(message["body"])
            if not message["more_body"]:
                break
        if limit is not None and size > limit:
            raise TooLong
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def named(self, identity: bytes) -> None:
        """Set the request's id, also in the headers that are passed on."""
        self.identity = identity
        given = self.given.get(b"x-request-id")
        if given is None:
            self.headers = [*self.headers, (b"x-request-id", identity)]
        elif given != identity:
            kept = [pair for pair in self.headers if pair[0] != b"x-request-id"]
            self.headers = [*kept, (b"x-request-id", identity)]

    def _hold(self, size: int) -> None:
        if size > self._room.left:
            raise NoRoom
        self._room.left -= size
        self._held += size

    def end(self) -> None:
        """Release the bytes of the body, because the request is answered."""
        self._room.left += self._held
        self._held = 0

    def http(self, path: bytes, headers: Pairs, key: bytes = b"") -> Http:
        """The request as its backend gets it."""
        caller = self.caller.name if self.caller is not None else ""
        return Http(self.method, self.host, path, self.query, headers, key, caller)


@lru_cache(maxsize=256)
def _kind(content_type: bytes) -> Kind:
    name = content_type.partition(b";")[0].strip().lower()
    if (
        not name
        or name == b"application/json"
        or (name.startswith(b"application/") and name.endswith(b"+json"))
    ):
        return "json"
    return "msgpack" if name in (b"application/msgpack", b"application/x-msgpack") else "other"
