"""A request on its way to a function in this process."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from runner.core.answered import Answered
from runner.core.http import carried
from runner.core.http.caller import Caller
from runner.core.http.carried import Pairs
from runner.gateway.events import Events
from runner.responses import Rendered
from runner.services.request import Request
from runner.targets import Target


class StoredOutput(Struct, frozen=True):
    """The place in a stream where the handler's result was stored."""

    stream: str
    sequence: int
    """The sequence of the last message, if there were several; 0 if the stream has not told it."""
    duplicate: bool


HttpOutcome: TypeAlias = Rendered | StoredOutput | Events | Answered
"""A result, a stored message, events that are sent one by one, or an error."""


class Http(Struct, frozen=True):
    """An HTTP request as it came."""

    method: str
    host: bytes
    path: bytes
    query: bytes
    headers: Pairs
    key: bytes = b""
    """The message id from the `Idempotency-Key`, the same for a repeated request; empty without one."""
    caller: str = ""
    """The caller's name, if the route has authentication."""
    auth: str = ""
    """The name of the authentication that held."""

    def known_by(self, caller: Caller | None) -> Http:
        """The same request, with the authentication that has found the caller."""
        return self if caller is None else replace(self, auth=caller.auth)

    def lines(self) -> bytes:
        """The headers, and the method, path, query and host, as lines of a NATS header block."""
        more = carried.asked(self.method, self.path, self.query, self.host)
        if self.caller:
            more.append((carried.CALLER.encode(), self.caller.encode()))
        if self.auth:
            more.append((carried.AUTH.encode(), self.auth.encode()))
        return carried.lines(self.headers, more)

    def request_lines(self) -> bytes:
        """The same lines for a function, with the `Idempotency-Key` as its `ctx.message_id`."""
        return self.lines() + (b"Nats-Msg-Id: %b\r\n" % self.key if self.key else b"")


class HttpRequest(Request):
    """A request that a function with `@route` answers."""

    http: Http | None = None
    target: Target = Target({}, b"")
    traces: bytes = b""
    """The header lines that carry the trace on."""
    takes_msgpack: bool = False
    future: asyncio.Future[HttpOutcome] | None = None
    events: Any = None
    """The `Events` of a generator."""
    output: str = ""
    """The subject of the handler's result, if that is published."""
    storing: bool = False

    def settle(self, outcome: HttpOutcome) -> None:
        """Give the outcome to the gateway, unless the client has gone or has an answer."""
        assert self.future is not None
        if not self.future.done():
            self.future.set_result(outcome)

    def whole(self) -> bytes:
        """All headers as a block; made when needed."""
        assert self.http is not None
        return b"NATS/1.0\r\n" + self.traces + self.http.request_lines() + b"\r\n"
