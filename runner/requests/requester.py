"""The requester: every request of a process, from the choice of an instance to the answer.

A request is a future and a few entries in tables: it has no task and no timer. All answers come to one subscription. The sweeper
(`sweep.py`) notices an instance that does not answer; `core/failover.py` decides what follows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextvars import Context as ContextVars
from threading import get_ident

from runner.core import header, service
from runner.core.balancer import POLICIES, Policy
from runner.core.subject import matches
from runner.errors import ServerError, Unconfirmed
from runner.host import Reply
from runner.jetstream import otherloop
from runner.jetstream.connection import Connection
from runner.requests.callee import Callee
from runner.requests.directory import Directory
from runner.requests.failover import Failover, settle
from runner.requests.liveness import Liveness
from runner.requests.outgoingrequest import OutgoingRequest
from runner.requests.sweep import Sweep
from runner.requests.tries import Tries, each
from runner.telemetry.tracing import Tracing
from runner.telemetry.tryspan import here

LOOP_SECONDS = 1.0
"""How much longer than its timeout a call from another event loop waits for the result from ours."""
LONGEST_SECONDS = 1e9
"""Longest timeout, some 30 years; a longer one is cut to this."""
LAST_TRY_SECONDS = 0.05
"""A request that nobody has taken is not tried in the last so many seconds before its deadline: a try takes some milliseconds."""
NO_RESPONDERS = b"NATS/1.0 503"
_CODE = b"\r\n" + service.CODE.encode() + b":"

log = logging.getLogger("jetrunner.requests")

clock = time.monotonic


class Requester:
    """Sends the requests of one connection to services."""

    def __init__(
        self, connection: Connection, tracing: Tracing, policies: Mapping[str, Policy] | None = None
    ) -> None:
        """`policies` says, by pattern of subjects, how an instance is chosen if a request names no policy."""
        self._connection = connection
        self._wire = connection.wire
        self._tracing = tracing
        self._policies = policies or {}
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self.now = connection.clock.now
        self.directory = Directory(connection)
        self._tries = Tries()
        self._waiting = self._tries.waiting
        self._postponed: dict[OutgoingRequest, None] = {}
        """Requests that are sent again by the sweep, for example once there is a connection."""
        self._prefix = b""
        self._cut = 0
        self._opening: asyncio.Task[None] | None = None
        self._liveness = Liveness(connection, self.directory, self._tries, self._send)
        self._failover = Failover(self.directory, self._tries, self._liveness, self._postponed, self._send)
        self._sweep = Sweep(self._waiting, self._postponed, self._late, self._look)

    @property
    def callees(self) -> Mapping[tuple[str, str], Callee]:
        """All known functions that answer, by project and pattern."""
        return self.directory.callees

    async def request(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str] | bytes,
        timeout: float,
        *,
        policy: Policy | None = None,
        sent_in: bytes | None = None,
    ) -> Reply:
        """Ask on a subject that was checked, and wait for the answer, at most `timeout` seconds.

        `headers` may be lines of a header block. `sent_in` has the headers of the message whose handler asks. Raises `ServiceError`
        if the answer is an error, `NoResponders` if nobody listens, `Unconfirmed` if no answer has come, and `TooLarge`.
        """
        timeout = min(timeout, LONGEST_SECONDS)
        if otherloop.is_other(self._loop, self._thread):
            try:
                return await otherloop.passed_on(
                    self._loop,
                    lambda: self.request(subject, body, headers, timeout, policy=policy, sent_in=sent_in),
                    timeout + LOOP_SECONDS,
                )
            except TimeoutError:
                raise Unconfirmed(
                    f"no answer from {subject} in {timeout:g} s: the loop of the connection stands still"
                ) from None
        if timeout <= 0:
            raise Unconfirmed(f"{subject} was not asked: no time is left")
        now = clock()
        deadline = now + timeout
        if isinstance(headers, bytes):
            lines = headers
        else:
            lines = header.encode(headers.items())[10:-2] if headers else b""
        self._connection.publisher.check_size(subject, len(body) + len(lines) + service.HEADERS_SIZE)
        asked = subject.encode("utf-8", "surrogateescape")
        if not self._cut:
            await self._open()
        self.directory.ask(now)  # also here, since the sweep turns only while a request waits
        if not self.directory.ready:
            await self.directory.wait(asked)
        callee = self.directory.callee(asked)
        future: asyncio.Future[Reply] = self._loop.create_future()
        request = OutgoingRequest(
            asked, body, lines, deadline, future, self._policy(subject, policy), here(sent_in), callee
        )
        if callee is not None:
            callee.asked = True
            callee.budget.deposit(now)
        self._send(request)
        self._sweep.add(request)
        try:
            return await future
        finally:
            if request.open:  # withdrawn, or answered by another try
                self._withdraw(request)
            if self._postponed:
                self._postponed.pop(request, None)

    def _policy(self, subject: str, given: Policy | None) -> Policy:
        if given is not None:
            if given not in POLICIES:
                raise ValueError(f"policy={given!r} is none of {', '.join(POLICIES)}")
            return given
        for pattern, policy in self._policies.items():
            if matches(pattern, subject):
                return policy
        return POLICIES[0]

    async def _open(self) -> None:
        """Open the directory in a task of its own: if one asker is cancelled, the others still get it."""
        if self._opening is None or self._opening.done():  # the opening has failed: try again
            self._opening = self._loop.create_task(self._subscribe(), context=ContextVars())
        await asyncio.shield(self._opening)

    async def _subscribe(self) -> None:
        inbox = self._connection.new_inbox()
        await self._wire.subscribe(f"{inbox}.*", self._answered)
        await self.directory.open()
        self._wire.on_lost.append(self._lost)
        self._connection.inbox.on_denied.append(self._failover.denied)
        self._prefix = inbox.encode() + b"."
        self._cut = len(self._prefix)

    # -- sending ----------------------------------------------------------------------------------------

    def _send(self, request: OutgoingRequest) -> None:
        """Send a request to an instance that has not been tried, or end it with the error that says why not."""
        now = clock()
        callee, backend, peer = request.callee, None, None
        if not self._connection.is_connected:
            self.directory.ask_soon()
            self._postponed[request] = None
            return
        if callee is not None:
            backend = callee.balancer.pick(request.policy, now, request.tried)
            if backend is not None:
                peer = callee.peers.get(backend.name)
            if peer is None:  # all instances were tried, or none is left
                if callee.peers and (verdict := request.verdict) is not None:
                    settle(request, verdict)
                    return
                request.callee = backend = None
        subject = request.subject if peer is None else peer.prefix + request.subject
        number = request.tries
        tried = self._tries.begin(request, callee if peer is not None else None, backend, peer, now)
        try:
            tried.span, carried = self._tracing.asking(
                request.asker, request.subject, callee.pattern if callee is not None else "",
                peer.id if peer is not None else "", number,
            )  # fmt: skip
            left = int((request.deadline - now) * 1000)
            block = b"NATS/1.0\r\nJetrunner-Deadline: %d\r\n%b%b\r\n" % (left, carried, request.lines)
            if len(subject) > self._wire.limit.longest:
                self._wire.limit.require(subject)
            self._wire.publish_known(subject, request.body, self._prefix + tried.token, block)
        except Exception as error:  # noqa: BLE001  # the asker is told of it, whatever it is
            self._tries.end(tried, now, "withdrawn", error)
            if isinstance(error, ValueError) and peer is not None:
                request.callee = None  # the subject is too long with the instance's name in it
                self._send(request)
            else:
                settle(request, error)

    # -- answers ----------------------------------------------------------------------------------------

    def _answered(self, subject: bytes, _reply: bytes, block: bytes | None, body: bytes) -> None:
        tried = self._waiting.get(subject[self._cut :])
        if tried is None:
            return
        request = tried.request
        if tried.peer is not None:
            tried.peer.heard()
        if block is not None:
            if block.startswith(NO_RESPONDERS) and not body:
                self._failover.not_there(tried)
                return
            if _CODE in block and (code := _code(block)):
                self._failover.erred(tried, code, block)
                return
        self._tries.end(tried, clock(), "answered")
        if not request.future.done():
            msgpack = block is not None and b"msgpack" in block and _is_msgpack(block)
            request.future.set_result(Reply(body, msgpack, block))

    # -- called by the sweeper --------------------------------------------------------------------------

    def _late(self, request: OutgoingRequest) -> None:
        subject = request.subject.decode(errors="replace")
        error: ServerError
        if request.open:
            error = Unconfirmed(f"no answer came on {subject} in time; it may have been worked on")
        else:
            unsent = Unconfirmed(f"{subject} was not sent: there was no connection")
            error = request.verdict or request.missed or unsent
        self._postponed.pop(request, None)
        now = clock()
        for tried in list(request.open):
            self._tries.end(tried, now, "failed", error)
        settle(request, error)

    def _look(self, now: float, stood_still: float) -> None:
        if not self._connection.is_connected:
            return
        self.directory.ask(now)
        if self._postponed:
            again = [request for request in self._postponed if not _is_too_late(request, now)]
            for request in again:
                del self._postponed[request]
            each(again, self._failover.send_again)
        self._liveness.check(now, stood_still)

    def _lost(self) -> None:
        """Handle a lost connection: instances may work on the requests, but no answers come."""
        self.directory.ask_soon()
        self._liveness.connection_lost()
        each(list(self._waiting.values()), self._failover.connection_lost)

    def _withdraw(self, request: OutgoingRequest) -> None:
        now = clock()
        for tried in list(request.open):
            self._tries.end(tried, now, "withdrawn")


def _is_too_late(request: OutgoingRequest, now: float) -> bool:
    """Whether another try would probably be unfinished at the deadline: then nobody could say that nothing has begun."""
    return request.missed is not None and request.deadline - now < LAST_TRY_SECONDS


def _is_msgpack(block: bytes) -> bool:
    kind = header.get(block, b"Content-Type")
    return kind is not None and kind.startswith(b"application/msgpack")


def _code(block: bytes) -> int:
    """The code of an error answer; 0 for any other answer."""
    told = header.get(block, service.CODE.encode()) or b""
    return int(told) if told.isdigit() and len(told) <= 4 else 0
