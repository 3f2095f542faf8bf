"""The application that uvicorn calls: it finds each request's route, caller, backend and answer, with a module for each."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from random import getrandbits
from typing import Any

from runner.core.http import cors, idempotency, rewriting
from runner.core.http.backend import Fixed, FunctionBackend, Publish, Redirect, Static
from runner.core.http.backend import RequestBackend as Over
from runner.core.http.requestid import request_id
from runner.core.http.routetable import Matched, RouteTable, Unmatched
from runner.gateway.access import AccessLine, AccessLog
from runner.gateway.answer import Answer, filtered, of_function, told_once, trouble, unmatched
from runner.gateway.callers import Callers
from runner.gateway.events import Events
from runner.gateway.exchange import Exchange, Gone, NoRoom, Receive, Room, Send, TooLong
from runner.gateway.forward import Forward
from runner.gateway.httpchannel import GONE, HttpChannel
from runner.gateway.httpcounts import NO_ROUTE, HttpCounts
from runner.gateway.httprequest import Http
from runner.gateway.sending import Sending
from runner.gateway.streams import Streams
from runner.telemetry.httpspans import HttpSpans

MOST_IN_FLIGHT = 4_096
"""Most requests of this process that are passed on to NATS at once; functions in this process have limits of their own."""
MOST_BODY_BYTES = 256 * 1024 * 1024
"""Most bytes of all bodies in this process that are read and not answered."""
TIMEOUT_SECONDS = 30.0
_MANY = "too many requests are on their way; try again later"
_OTHER = "the body is application/json or application/msgpack, as its Content-Type says"
_PACKED = b"application/msgpack"

log = logging.getLogger("jetrunner.gateway")

clock = time.monotonic


class GatewayApp:
    """The application of one process."""

    def __init__(
        self,
        functions: Mapping[str, HttpChannel],
        backends: tuple[Forward, Streams],
        callers: Callers,
        spans: HttpSpans,
        access: AccessLog,
        counts: HttpCounts,
    ) -> None:
        """`functions` are those of this process, by name; `backends` reach functions and streams over NATS."""
        self.table = RouteTable((), luck=lambda: 0.0)
        """The routes; another table may take its place between two requests."""
        self._functions = functions
        self._forward, self._streams = backends
        self._callers = callers
        self._spans = spans
        self._access = access
        self._counts = counts
        self._on_their_way = 0
        self._room = Room(MOST_BODY_BYTES)
        self._sending = Sending()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request; called as ASGI defines it."""
        began, exchange = clock(), Exchange(scope, receive, self._room)
        self._callers.trace_back(exchange)
        found = self._matched(exchange)
        route = found.route.name if type(found) is Matched else NO_ROUTE
        block = exchange.block
        template = found.route.path.path if type(found) is Matched else ""
        span = exchange.span = self._spans.begin(block, exchange.method, template, exchange.path)
        exchange.traces = span.lines if span is not None else self._spans.untraced(block)
        identity = request_id(exchange.headers, getrandbits)
        exchange.named(identity.encode())
        self._counts.in_flight += 1
        status, size, why = GONE, 0, ""
        try:
            try:
                answer = await self._answered(found, exchange)
            except Gone:
                raise
            except Exception as error:
                log.exception("%s %s: the gateway itself has failed", exchange.method, route)
                answer = trouble(500, "The gateway has failed.")
                answer.why = type(error).__name__
            status, why = answer.status, answer.why
            size = await self._sending.send(answer, exchange, send)
        except Gone:
            return
        finally:
            exchange.end()
            self._counts.in_flight -= 1
            seconds = clock() - began
            self._counts.note(route, status, seconds)
            if span is not None:
                span.end(status, why)
        if self._access.enabled:
            self._access.note(
                AccessLine(
                    method=exchange.method, host=exchange.host.decode("latin-1"),
                    path=exchange.path.decode("ascii", "replace"), route=route, status=status, bytes=size,
                    seconds=round(seconds, 6), client=exchange.client, request_id=identity,
                    trace_id=span.trace_id if span is not None else "",
                    caller=exchange.caller.name if exchange.caller is not None else "",
                )
            )  # fmt: skip

    def stop_events(self) -> None:
        """End the answers whose events would go on."""
        self._sending.stop_events()

    # -- the route --------------------------------------------------------------------------------------

    def _matched(self, exchange: Exchange) -> Matched | Unmatched:
        method, host = exchange.method, exchange.host.decode("latin-1")
        path, query, headers = exchange.path, exchange.query, exchange.headers
        if method == "OPTIONS" and (asked := cors.requested_method(method, headers)):
            found = self.table.match(asked, host, path, query, headers)
            if isinstance(found, Matched) and found.route.options.cors is not None:
                return found
        return self.table.match(method, host, path, query, headers)

    async def _answered(self, found: Matched | Unmatched, exchange: Exchange) -> Answer:
        if isinstance(found, Unmatched):
            return unmatched(found, exchange.method)
        options, shared = found.route.options, found.route.options.cors
        if shared is None:
            return await self._allowed(found, exchange)
        if exchange.method == "OPTIONS" and cors.requested_method("OPTIONS", exchange.headers):
            return Answer(204, headers=cors.preflight(shared, exchange.headers))
        answer = await self._allowed(found, exchange)
        assert options.cors is not None
        told_once(answer, cors.answered(options.cors, exchange.headers))
        return answer

    async def _allowed(self, found: Matched, exchange: Exchange) -> Answer:
        """Check the caller, then give the backend's answer."""
        options = found.route.options
        try:
            denied = await self._callers.refused(options, exchange) if options.auth else None
            return denied or await self._asked(found, exchange)
        except TooLong:
            return trouble(413, f"a body has at most {options.body_limit:,} bytes here")
        except NoRoom:
            return trouble(429, _MANY, after=1.0)

    async def _asked(self, found: Matched, exchange: Exchange) -> Answer:
        path, headers = exchange.path, exchange.headers
        if found.filters:
            path = rewriting.rewritten(path, found.route, found.filters)
            headers = rewriting.changed(headers, found.filters, "request")
        key = b""
        if idempotency.HEADER in exchange.given:
            try:
                key = self._key(found, exchange)
            except ValueError as error:
                return trouble(400, str(error))
        elif found.route.options.idempotency == "required" and isinstance(found.backend, Publish):
            return trouble(400, "This path needs an Idempotency-Key.")
        http = exchange.http(path, headers, key).known_by(exchange.caller)
        match found.backend:
            case FunctionBackend(function):
                answer = await self._called(self._functions.get(function), http, found, exchange)
            case Over() | Publish():
                answer = await self._passed_on(http, found, exchange)
            case Redirect():
                place = rewriting.location(
                    found.backend,
                    found.route,
                    exchange.scheme,
                    exchange.host.decode("latin-1"),
                    exchange.path,
                    exchange.query,
                )
                answer = Answer(
                    found.backend.status, headers=[(b"location", place.encode("latin-1", "replace"))]
                )
            case Static(body, more):
                answer = Answer(200, body, headers=list(more))
            case Fixed(status, detail):
                answer = trouble(status, detail)
        if found.filters:
            filtered(answer, exchange.identity, found.filters)
        elif answer.headers:
            told_once(answer, [(b"x-request-id", exchange.identity)])
        return answer

    def _key(self, found: Matched, exchange: Exchange) -> bytes:
        """The message id from the `Idempotency-Key`, the same for a repeated request. Raises ValueError if the key is not valid."""
        caller = exchange.caller
        target = f"{found.route.name} {exchange.method} {exchange.path.decode('ascii', 'replace')}"
        who = f"{caller.auth} {caller.name}" if caller is not None else ""
        rule = found.route.options.idempotency
        return (idempotency.message_id(exchange.headers, rule, route=target, caller=who) or "").encode()

    # -- backends ---------------------------------------------------------------------------------------

    async def _called(
        self, function: HttpChannel | None, http: Http, found: Matched, exchange: Exchange
    ) -> Answer:
        if function is None:
            return trouble(503, "the function behind this path does not run here", after=1.0)
        body, kind = b"", "json"
        if function.takes_body and exchange.has_body:
            kind = exchange.kind
            if kind == "other" and not function.raw:
                return trouble(415, _OTHER)
            body = await exchange.body(found.route.options.body_limit)
        packs = _PACKED in exchange.given.get(b"accept", b"")
        msgpack = (kind == "msgpack", packs)
        outcome = await function.ask(
            http,
            found.params,
            body,
            msgpack=msgpack,
            traces=exchange.traces,
            timeout=found.route.options.timeout,
        )
        if self._sending.leaving and isinstance(outcome, Events):
            outcome.leave()
            return trouble(503, "the gateway ends; try again", after=1.0)
        return of_function(outcome)

    async def _passed_on(self, http: Http, found: Matched, exchange: Exchange) -> Answer:
        if self._on_their_way >= MOST_IN_FLIGHT:
            return trouble(429, _MANY, after=1.0)
        span, traces, timeout = exchange.span, exchange.traces, found.route.options.timeout
        if (
            isinstance(found.backend, Over)
            and found.backend.typed
            and exchange.has_body
            and exchange.kind == "other"
        ):
            return trouble(415, _OTHER)
        self._on_their_way += 1
        try:
            body = await exchange.body(found.route.options.body_limit)
            if isinstance(found.backend, Publish):
                return await self._streams.answer(
                    http, found.subject, body, timeout, span=span, traces=traces
                )
            if span is not None:
                span.activate()
            return await self._forward.answer(
                http, found.subject, body, timeout or TIMEOUT_SECONDS, traced=span is not None, traces=traces
            )
        finally:
            self._on_their_way -= 1
