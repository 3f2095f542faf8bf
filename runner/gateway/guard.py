"""The guard: uvicorn's protocol, with checks and limits that it lacks. A client that breaks a rule gets an answer and is cut off.

Rule 1: a request that two parsers could read in two ways is refused (400): a missing or second Host, a Host that differs from the
        target's, a Transfer-Encoding besides a Content-Length, in HTTP/1.0, or other than `chunked`; httptools refuses the rest.
Rule 2: a head has 32 KiB and 100 headers at most (431), and is whole within 10 s (408); a body has its limit (413) and a rate
        (408).
        Trailers count with the head (431), and are dropped.
        A client that reads nothing of its answer for 30 s is cut off, and sooner while the process ends.
Rule 3: a refusal waits until earlier requests are answered, so that no client takes it for the answer to another request.
Rule 4: after a refusal the connection is still read for 2 s, so that a client that is still sending gets the answer, not a reset.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from runner.gateway.head import RULED, Head, Refused
from runner.gateway.joined import Joined
from runner.gateway.limits import Limits
from runner.gateway.refusals import refusal

clock = time.monotonic


class Guard(HttpToolsProtocol):
    """The protocol of one connection. The listener sets `limits`, `draining` and `refused` in a class of its own."""

    limits = Limits()
    draining: Callable[[], bool] = staticmethod(lambda: False)
    refused: Callable[[Guard, Refused], None] = staticmethod(lambda _, __: None)
    """Called with each refusal."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.url = b""
        self.due = 0.0
        """When the client must have sent the rest of its head or body; 0.0 if nothing is awaited."""
        self._in_head = True
        self._head_bytes = 0
        self._body_began = 0.0
        self._body_bytes = 0
        self._bodiless_bytes = 0
        """Bytes that have come since the last byte of the body: the parser holds a trailer until it is whole."""
        self._head = Head(self.limits)
        self._answer = b""
        """A refusal that waits until earlier requests are answered."""
        self._deaf = False
        """Whether incoming data is dropped."""
        self._count = 0
        self._unread, self._unread_since = 0, 0.0
        """Bytes that wait for the client to read, at the last check; and since when they have not become fewer."""

    # -- the connection ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # noqa: D102  # as uvicorn has it
        super().connection_made(transport)
        self._joined = Joined(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(Refused(503, "too many connections"))
            return
        self.due = clock() + self.limits.head_seconds

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if self._deaf:
            return
        limit = self.limits.head_bytes
        while data:
            here, data = (data, b"") if not self._in_head else (data[:limit], data[limit:])
            if self._in_head and self._head_bytes == 0:
                self.due = clock() + self.limits.head_seconds
            before, body_before = self._count, self._body_bytes
            if self._in_head:
                self._head_bytes += len(here)
            self._feed(here)
            if self._stopped():
                return
            if not self._in_head:
                still = self._count == before and self._body_bytes == body_before
                self._bodiless_bytes = self._bodiless_bytes + len(here) if still else 0
                if self._bodiless_bytes > limit:
                    self._refuse(Refused(431, f"trailers have at most {limit:,} bytes"))
                    return
            if self._in_head and self._count == before and self._head_bytes > limit:
                self._refuse(Refused(431, f"the head of a request has at most {limit:,} bytes"))
                return

    def _stopped(self) -> bool:
        return self._deaf or self.transport.is_closing()

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # the rest of the data is not HTTP any more
            self._deaf = True
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            why = error.__context__  # the exception that a callback has raised
            if not isinstance(why, Refused):
                why = Refused(400, "the request is not well-formed HTTP/1.1")
            self._refuse(why)

    def sweep(self, now: float) -> None:
        """Refuse a client that is late, and cut off one that does not read; called twice a second."""
        if self._reads_nothing(now):
            self.transport.abort()
            return
        if not self.due or now < self.due:
            return
        if self._deaf:
            self.transport.close()
        elif not self._in_head and self.flow.read_paused:
            self.due = now + self.limits.body_seconds  # the client waits for us
        elif self._in_head and self._head_bytes == 0:
            self.transport.close()  # the client has sent nothing
        elif self._in_head:
            self._refuse(
                Refused(408, f"the head of a request has to be here in {self.limits.head_seconds:g} s")
            )
        else:
            self._refuse(Refused(408, "the body of the request comes too slowly"))

    def _reads_nothing(self, now: float) -> bool:
        before, self._unread = self._unread, self.transport.get_write_buffer_size()
        if not self._unread or not before or self._unread < before:
            self._unread_since = now
        limits = self.limits
        most = limits.unread_leaving_seconds if self.draining() else limits.unread_seconds
        return now - self._unread_since >= most and self._unread > 0

    # -- the parser -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:  # noqa: D102
        super().on_message_begin()
        self._head = Head(self.limits)
        self._in_head = True
        if self._head_bytes == 0:  # the first bytes came with the end of the previous request
            self._head_bytes, self.due = 1, clock() + self.limits.head_seconds
        if len(self.pipeline) >= self.limits.pipelined:
            raise Refused(429, "too many requests are on their way on one connection")

    def on_url(self, url: bytes) -> None:  # noqa: D102
        self._head.count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        lower = name.lower()
        self._head.count(len(name) + len(value) + 4)
        if not self._in_head:
            return  # a trailer after a chunked body comes too late to matter: it is dropped
        if len(self.headers) >= self.limits.headers:
            raise Refused(431, f"a request has at most {self.limits.headers} headers")
        self.headers.append((lower, value))
        if lower in RULED:
            self._head.take(lower, value)

    def on_headers_complete(self) -> None:  # noqa: D102
        self.url = self._head.check(self.parser.get_http_version(), self.parser.get_method(), self.url)
        self.expect_100_continue = self._head.expects
        if self.parser.should_upgrade() and any(
            name == b"upgrade" and b"websocket" in value.lower() for name, value in self.headers
        ):
            raise Refused(400, "no WebSockets here")
        super().on_headers_complete()
        self.cycle.transport = self._joined  # type: ignore[assignment]  # all that an answer needs of one
        self._in_head, self._head_bytes = False, 0
        self._body_began, self._body_bytes, self._bodiless_bytes = clock(), 0, 0
        self.due = self._body_began + self.limits.body_seconds
        self._count += 1
        if self._count >= self.limits.requests or self.draining():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:  # noqa: D102
        self._body_bytes += len(body)
        if self._body_bytes > self.limits.body_bytes:
            raise Refused(413, f"a body has at most {self.limits.body_bytes:,} bytes")
        self.due = self._body_began + self.limits.body_seconds + self._body_bytes / self.limits.body_rate
        super().on_body(body)

    def on_message_complete(self) -> None:  # noqa: D102
        self._in_head, self._head_bytes, self.due = True, 0, 0.0
        super().on_message_complete()

    def on_response_complete(self) -> None:  # noqa: D102
        self._joined.flush()
        others = bool(self.pipeline)
        super().on_response_complete()
        if self._answer and not others and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._say(self._answer)

    # -- refusals ---------------------------------------------------------------------------------------

    def _refuse(self, why: Refused) -> None:
        """Refuse the message that is being read, once earlier requests are answered; nothing after it is read."""
        self._deaf = True
        self.refused(self, why)
        answer = refusal(why.status, why.detail)
        own = None if self._in_head else self.cycle
        if own is not None:
            waiting = [each for each in self.pipeline if each[0] is not own]
            queued = len(waiting) != len(self.pipeline)
            self.pipeline.clear()
            self.pipeline.extend(waiting)
            if not queued and own.response_started:
                self.transport.close()  # an answer that has begun cannot be replaced
                return
            own.disconnected = True
            own.message_event.set()
            if queued:
                self._answer = answer
                self.due = 0.0
                return
        elif not self._answered():
            self._answer = answer
            self.due = 0.0
            return
        self._say(answer)

    def _say(self, answer: bytes) -> None:
        self._answer = b""
        self.transport.write(answer)
        if self.transport.can_write_eof():
            self.flow.resume_reading()
            self.due = clock() + self.limits.linger_seconds
            self.transport.write_eof()
        else:
            self.transport.close()

    @property
    def asked(self) -> tuple[str, str, str]:
        """Method, host and path of the message that is being read, as far as they are known; none of them was checked."""
        if self._in_head and self._head_bytes == 0:
            return "", "", ""
        method = self.parser.get_method().decode("latin-1") if self.url else ""
        host = self._head.hosts[0].decode("latin-1") if self._head.hosts else ""
        return method, host, self.url.partition(b"?")[0].decode("ascii", "replace")

    # -- the end ----------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether the connection has no request, not even a partial one."""
        return self._in_head and self._head_bytes == 0 and self._answered()

    def _answered(self) -> bool:
        """Whether the newest request has been answered, or there was none."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def end_soon(self) -> None:
        """Make the answer in progress the last of this connection, because the process ends."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_started:
            cycle.keep_alive = False

    def close_idle(self) -> None:
        """Close the connection if it is idle."""
        if self.idle:
            self.transport.close()
