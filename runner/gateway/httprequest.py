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


class Stored(Struct, frozen=True):
    """What the handler returned is in a stream."""

    stream: str
    sequence: int
    """Of the last one, where it was several; 0 where the stream has not told."""
    duplicate: bool


Outcome: TypeAlias = Rendered | Stored | Events | Answered
"""A result, what is stored, events that come one by one, or an error."""


class Http(Struct, frozen=True):
    """A request as it came."""

    method: str
    host: bytes
    path: bytes
    query: bytes
    headers: Pairs
    key: bytes = b""
    """What names a request that is sent again, as its `Idempotency-Key` says; empty without one."""
    caller: str = ""
    """Who asks, where the route asks that."""
    auth: str = ""
    """The name of the authentication that held."""

    def known_by(self, caller: Caller | None) -> Http:
        """The same, with the authentication that has found who asks."""
        return self if caller is None else replace(self, auth=caller.auth)

    def lines(self) -> bytes:
        """Its headers, and what was asked, as lines of a NATS header block."""
        more = carried.asked(self.method, self.path, self.query, self.host)
        if self.caller:
            more.append((carried.CALLER.encode(), self.caller.encode()))
        if self.auth:
            more.append((carried.AUTH.encode(), self.auth.encode()))
        return carried.lines(self.headers, more)

    def request_lines(self) -> bytes:
        """The same for a function, which knows the `Idempotency-Key` as `ctx.message_id`."""
        return self.lines() + (b"Nats-Msg-Id: %b\r\n" % self.key if self.key else b"")


class HttpRequest(Request):
    """One that a function with `@route` answers."""

    http: Http | None = None
    target: Target = Target({}, b"")
    traces: bytes = b""
    """The lines that carry its trace on."""
    takes_msgpack: bool = False
    future: asyncio.Future[Outcome] | None = None
    events: Any = None
    """The `Events` of a generator."""
    output: str = ""
    """The subject of what the handler returns, where that is published."""
    storing: bool = False

    def settle(self, outcome: Outcome) -> None:
        """Give the answer to the client, unless it has gone or has one."""
        assert self.future is not None
        if not self.future.done():
            self.future.set_result(outcome)

    def whole(self) -> bytes:
        """All headers: made when somebody asks."""
        assert self.http is not None
        return b"NATS/1.0\r\n" + self.traces + self.http.request_lines() + b"\r\n"
