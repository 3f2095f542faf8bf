"""The application that uvicorn asks: a request's route, its backend, its answer. What each is, is decided elsewhere."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from random import getrandbits
from typing import Any, Literal, TypeAlias

from runner.core.http import carried, rewriting
from runner.core.http.backend import Call, Fixed, Publish, Redirect
from runner.core.http.backend import Request as Over
from runner.core.http.routetable import Matched, Refused, RouteTable
from runner.gateway.access import AccessLog
from runner.gateway.answer import Answer, compress, of_function, trouble
from runner.gateway.asked import Http
from runner.gateway.counts import NO_ROUTE, Counts
from runner.gateway.events import Events
from runner.gateway.forward import Forward
from runner.gateway.functions import GONE, Routed
from runner.gateway.streams import Streams
from runner.telemetry.httpspans import HttpSpan, HttpSpans

Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
Kind: TypeAlias = Literal["json", "msgpack", "other"]

MOST_IN_FLIGHT = 4_096
"""Requests on their way to NATS, of this process; functions in it have limits of their own."""
TIMEOUT_SECONDS = 30.0

clock = time.monotonic

_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_NOTHING = b""


class Gone(Exception):  # noqa: N818  named by what happened
    """The client has gone before its request was whole."""


class App:
    """Of one process."""

    def __init__(
        self,
        functions: Mapping[str, Routed],
        forward: Forward,
        streams: Streams,
        spans: HttpSpans,
        access: AccessLog,
        counts: Counts,
    ) -> None:
        self.table = RouteTable((), luck=lambda: 0.0)
        """May be another from one request to the next."""
        self._open: set[Events] = set()
        """Answers whose events go on."""
        self._functions = functions
        self._forward = forward
        self._streams = streams
        self._spans = spans
        self._access = access
        self._counts = counts
        self._on_their_way = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        began = clock()
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        given = dict(headers)
        method, path = scope["method"], scope["raw_path"]
        host = given.get(b"host", b"")
        found = self.table.match(method, host.decode("latin-1"), path, scope["query_string"], headers)
        route = found.route.name if type(found) is Matched else NO_ROUTE
        block = _traced(headers) if b"traceparent" in given else None
        span = self._spans.begin(block, method, route if type(found) is Matched else "", path)
        traces = span.lines if span is not None else self._spans.untraced(block)
        self._counts.in_flight += 1
        status = GONE
        try:
            try:
                answer = await self._answered(found, scope, given, receive, span, traces)
            except Gone:
                return
            status = answer.status
            request_id = given.get(b"x-request-id", b"")
            if _ID.fullmatch(request_id) is None:
                request_id = b"%016x" % getrandbits(64)
            size = await self._send(answer, method, given, request_id, receive, send)
        finally:
            self._counts.in_flight -= 1
            seconds = clock() - began
            self._counts.note(route, status, seconds)
            if span is not None:
                span.end(status, answer.why if status != GONE else "")
        if self._access.enabled:
            client = scope["client"]
            self._access.note(
                method=method, host=host, path=path, route=route, status=status, size=size, seconds=seconds,
                client=client[0] if client else "", request_id=request_id.decode("ascii"),
                trace_id=span.trace_id if span is not None else "",
            )  # fmt: skip

    def stop_events(self) -> None:
        """End the answers that would go on: their clients come again, to another process."""
        for events in self._open:
            events.stop()

    # -- what is answered -------------------------------------------------------------------------------

    async def _answered(
        self,
        found: Matched | Refused,
        scope: Any,
        given: dict[bytes, bytes],
        receive: Receive,
        span: HttpSpan | None,
        traces: bytes,
    ) -> Answer:
        if isinstance(found, Refused):
            return _refused(found, scope["method"])
        backend, options = found.backend, found.route.options
        headers, path = scope["headers"], scope["raw_path"]
        if found.filters:
            path = rewriting.rewritten(path, found.route, found.filters)
            headers = rewriting.changed(headers, found.filters, "request")
        key = given.get(b"idempotency-key", b"") if options.idempotency != "off" else b""
        if key and not carried.is_key(key):
            return trouble(400, "an Idempotency-Key has 1 to 255 printable characters")
        if not key and options.idempotency == "required" and isinstance(backend, Publish):
            return trouble(400, "an Idempotency-Key is needed here")
        host = given.get(b"host", b"")
        http = Http(scope["method"], host, path, scope["query_string"], headers, key)
        if isinstance(backend, Call):
            answer = await self._called(
                self._functions[backend.function], http, found, given, receive, traces
            )
        elif isinstance(backend, (Over, Publish)):
            answer = await self._passed_on(http, found, receive, given, span, traces)
        elif isinstance(backend, Redirect):
            place = rewriting.location(
                backend, found.route, scope["scheme"], host.decode("latin-1"), scope["raw_path"], http.query
            )
            answer = Answer(backend.status, headers=[(b"location", place.encode("latin-1", "replace"))])
        else:
            assert isinstance(backend, Fixed)
            answer = trouble(backend.status, backend.detail)
        if found.filters:
            answer.headers = rewriting.changed(answer.headers, found.filters, "response")
        return answer

    async def _called(
        self,
        function: Routed,
        http: Http,
        found: Matched,
        given: dict[bytes, bytes],
        receive: Receive,
        traces: bytes,
    ) -> Answer:
        body, kind = b"", "json"
        if function.takes_body and _has_body(given):
            kind = _kind(given.get(b"content-type", _NOTHING))
            if kind == "other" and not function.raw:
                return trouble(
                    415, "the body is application/json or application/msgpack, as its Content-Type says"
                )
            limited = await _read(receive, found.route.options.body_limit)
            if isinstance(limited, Answer):
                return limited
            body = limited
        packs = b"application/msgpack" in given.get(b"accept", b"")
        outcome = await function.ask(
            http, found.params, body, msgpack=(kind == "msgpack", packs), traces=traces
        )
        return of_function(outcome)

    async def _passed_on(
        self,
        http: Http,
        found: Matched,
        receive: Receive,
        given: dict[bytes, bytes],
        span: HttpSpan | None,
        traces: bytes,
    ) -> Answer:
        if self._on_their_way >= MOST_IN_FLIGHT:
            return trouble(429, "too many requests are on their way; try again later", after=1.0)
        limited: bytes | Answer = b""
        if _has_body(given):
            limited = await _read(receive, found.route.options.body_limit)
        if isinstance(limited, Answer):
            return limited
        body = limited
        self._on_their_way += 1
        try:
            if isinstance(found.backend, Publish):
                return await self._streams.answer(http, found.subject, body, span=span, traces=traces)
            if span is not None:
                span.activate()
            timeout = found.route.options.timeout or TIMEOUT_SECONDS
            return await self._forward.answer(
                http, found.subject, body, timeout, traced=span is not None, traces=traces
            )
        finally:
            self._on_their_way -= 1

    # -- sending ----------------------------------------------------------------------------------------

    async def _send(
        self,
        answer: Answer,
        method: str,
        given: dict[bytes, bytes],
        request_id: bytes,
        receive: Receive,
        send: Send,
    ) -> int:
        """Send it; how many bytes the body had."""
        compress(answer, given.get(b"accept-encoding"))
        headers = [*answer.headers, (b"x-request-id", request_id)]
        if answer.kind:
            headers.append((b"content-type", answer.kind))
        body = answer.body
        if answer.events is None and answer.status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if answer.events is None or method == "HEAD":
            if answer.events is not None:
                answer.events.leave()
            await send({"type": "http.response.body", "body": body})
            return len(body)
        return await self._stream(answer, receive, send)

    async def _stream(self, answer: Answer, receive: Receive, send: Send) -> int:
        events = answer.events
        assert events is not None
        size = 0
        self._open.add(events)
        leaving = asyncio.ensure_future(_disconnected(receive))
        leaving.add_done_callback(lambda _: events.leave())
        try:
            while (data := await events.get()) and not events.gone:
                size += len(data)
                await send({"type": "http.response.body", "body": data, "more_body": True})
            if not events.gone:
                await send({"type": "http.response.body", "body": b""})
        finally:
            leaving.cancel()
            self._open.discard(events)
        return size


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read(receive: Receive, limit: int | None) -> bytes | Answer:
    """The whole body, or the answer to one that is too long. Raises Gone."""
    message = await receive()
    if message["type"] != "http.request":
        raise Gone
    body: bytes = message["body"]
    if message["more_body"]:
        parts, size = [body], len(body)
        while message["more_body"]:
            message = await receive()
            if message["type"] != "http.request":
                raise Gone
            size += len(message["body"])
            if limit is None or size <= limit:
                parts.append(message["body"])
        body = b"".join(parts)
        if limit is not None and size > limit:
            return trouble(413, f"a body has at most {limit:,} bytes here")
    if limit is not None and len(body) > limit:
        return trouble(413, f"a body has at most {limit:,} bytes here")
    return body


def _has_body(given: dict[bytes, bytes]) -> bool:
    return given.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in given


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


def _traced(headers: list[tuple[bytes, bytes]]) -> bytes:
    """What the headers say of traces, as a NATS header block."""
    lines = [
        b"%b: %b\r\n" % (name, value)
        for name, value in headers
        if name in (b"traceparent", b"tracestate", b"baggage")
    ]
    return b"NATS/1.0\r\n" + b"".join(lines) + b"\r\n"


def _refused(found: Refused, method: str) -> Answer:
    allow = [(b"allow", ", ".join((*found.allow, "OPTIONS")).encode())] if found.allow else []
    if found.status == 405 and method == "OPTIONS":
        return Answer(204, headers=allow)
    return trouble(found.status, found.detail, headers=allow)
