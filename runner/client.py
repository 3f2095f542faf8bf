"""Publish into streams and ask services outside of functions, traced: `async with runner.connect() as app:`."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from threading import get_ident
from typing import Any, TypeVar, overload

import anyio
import anyio.to_thread
from msgspec import structs

from runner import devserver
from runner.config import Settings, load_settings
from runner.core import header
from runner.core.balancer import Policy
from runner.errors import NoResponders, NoStream, PermissionDenied, ServerError, SettingsError, Unconfirmed
from runner.host import require_timeout
from runner.jetstream import otherloop
from runner.jetstream.connection import Connection
from runner.jetstream.connection import connect as open_connection
from runner.jetstream.publisher import Outgoing, PubAck, in_doubt, may_pass
from runner.jetstream.server import leaderless, no_leader
from runner.pipeline import delayed
from runner.requests.requester import Requester
from runner.staged import due, stage
from runner.telemetry import settings as telemetry
from runner.telemetry.tracing import Tracing

T = TypeVar("T")

REQUEST_SECONDS = 5.0
PATIENCE_SECONDS = 10.0
"""How long a publish is tried again: with a Msg-Id after errors that may pass, without one while its stream has no leader."""
FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.05, 1.0
CLOCK_SECONDS = 60.0
"""How long the server's time counts as known after an answer that told it."""
STANDSTILL_SECONDS = 25.0
"""How long a call from another loop waits: the connection's loop has had time for every attempt by then."""


_of_functions: list[Settings] = []
"""The settings of the runners that work in this process, the newest last."""


class App:
    """A connection outside of functions; every publish is confirmed by its stream.

    It may be used from other loops, too (`asyncio.run` in a thread), as long as the loop runs in which it was opened.
    """

    def __init__(
        self,
        connection: Connection,
        tracing: Tracing,
        project: str,
        policies: Mapping[str, Policy] | None = None,
    ) -> None:
        self.connection = connection
        self._tracing = tracing
        self._project = project
        self._requester = Requester(connection, tracing, policies)
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._may_ask = True

    async def publish(
        self,
        subject: str,
        body: Any,
        *,
        headers: Mapping[str, str] | None = None,
        delay: float | None = None,
        at: datetime | None = None,
    ) -> PubAck:
        """Store one message and return where it stands: `stream`, `seq`, and whether it was a `duplicate`.

        A message with a `Nats-Msg-Id` header is safe to repeat, and tried again for 10 seconds; one without is tried again while
        its stream has no leader. With `delay` in seconds, or
        `at`, a time with a timezone, it is stored now and published then. Raises ValueError and the `ServerError` family.
        """
        if otherloop.is_other(self._loop, self._thread):
            try:
                return await otherloop.passed_on(
                    self._loop,
                    lambda: self.publish(subject, body, headers=headers, delay=delay, at=at),
                    STANDSTILL_SECONDS,
                )
            except TimeoutError:
                raise Unconfirmed(
                    f"no PubAck for {subject}: the loop of the connection stands still"
                ) from None
        if delay is not None:
            await self._read_clock()
        staged = stage(subject, body, headers, due(delay, at, self.connection.clock.now))
        with self._tracing.publish_span(subject, headers=staged.headers.items()) as span:
            # nats-server 2.15 takes no message that says of itself that it was copied from another stream.
            fields = {header.SOURCE, *(name.lower() for name, _ in span.headers)}
            pairs = [
                *((name, value) for name, value in staged.headers.items() if name.lower() not in fields),
                *span.headers,
            ]
            named = next((value for name, value in pairs if name.lower() == "nats-msg-id"), None)
            message = Outgoing(subject, staged.body, tuple(pairs))
            if staged.at is not None:
                rest = [pair for pair in pairs if pair[0].lower() != "nats-msg-id"]
                message = delayed.schedule(self._project, staged, named or os.urandom(16).hex(), rest)
            ack = await self._stored(subject, message, surely=staged.at is not None or named is not None)
            span.stored(ack.stream, ack.seq)
            return ack

    async def _stored(self, subject: str, message: Outgoing, *, surely: bool) -> PubAck:
        """Publish a message, and again while its stream has no leader: no server has taken the message in then.

        `surely`, for a message with a Msg-Id, it is published again after a lost answer and other errors that may pass, too.
        """
        lost: Unconfirmed | None = None
        until, pause = anyio.current_time() + PATIENCE_SECONDS, FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self.connection.publisher.publish(message.subject, message.body, message.headers)
            except NoResponders:
                why = await leaderless(self.connection, message.subject)
                again = surely or bool(why)  # without the right to ask, no reason is known
                # What became of an earlier try is not told by the last one.
                error = lost or (no_leader(why) if why else _absent(subject, message.subject))
            except NoStream as refused:
                again, error = surely, in_doubt(refused)
            except ServerError as refused:
                again, error = surely and may_pass(refused), refused
            if isinstance(error, Unconfirmed):
                lost = error
            if not again or anyio.current_time() >= until:
                raise error
            await anyio.sleep(pause)
            pause = min(MOST_PAUSE_SECONDS, 2 * pause)

    async def _read_clock(self) -> None:
        """Ask for the server's time, from which delays count, if the last is over 60 s old. Without the right to ask, our clock counts."""
        if self._may_ask and self.connection.clock.age > CLOCK_SECONDS:
            try:
                await self.connection.api(f"STREAM.INFO.{delayed.STREAM}")
            except PermissionDenied:
                self._may_ask = False
            except ServerError:  # the publish itself tells of the error
                return

    @overload
    async def request(
        self,
        subject: str,
        body: Any,
        *,
        returns: type[T],
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> T: ...

    @overload
    async def request(
        self,
        subject: str,
        body: Any,
        *,
        returns: None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> Any: ...

    async def request(
        self,
        subject: str,
        body: Any,
        *,
        returns: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> Any:
        """Ask a service, and decode its answer to `returns`; without `returns` as plain JSON, and an empty answer to None.

        `timeout` is in seconds, 5 by default. `policy` says how one of several instances is chosen: by default as the project's
        settings say, else by "peak_ewma", which takes the one that answers soonest. Raises `ServiceError` for an answer that is
        an error, `NoResponders` if nobody listens, `Unconfirmed` if no answer has come, ValueError and DecodeError.
        """
        message = stage(subject, body, headers, None)
        left = REQUEST_SECONDS if timeout is None else require_timeout(timeout)
        reply = await self._requester.request(subject, message.body, message.headers, left, policy=policy)
        return reply.decode(returns)


def _absent(subject: str, published: str) -> NoStream:
    """The error for a message to `subject` that was published to `published`, which no stream captures."""
    if published != subject:
        return NoStream(
            f"no stream captures {published}",
            hint="start `runner run` once: it makes the stream of delayed messages",
        )
    return NoStream(f"no stream captures {subject}", hint="declare one in streams/ and run `runner apply`")


@asynccontextmanager
async def connect(
    nats_url: str | None = None, *, settings: Settings | None = None, project: Path | str | None = None
) -> AsyncIterator[App]:
    """Connect for the time of the block: to `nats_url`, else to the server of the project in the folder `project`.

    `project` is the current folder by default. Its server is found as the commands find it: by the environment and the project's
    settings, or by the project's running `runner dev`. In a function or a lifespan it is the server that the runner works with.
    `settings` are taken as they are. Raises `Unreachable` and `SettingsError`.
    """
    chosen = settings
    if chosen is None:
        chosen = await anyio.to_thread.run_sync(_settings, nats_url, project)
    traces = telemetry.load(os.environ)
    if settings is None and not traces.asked and not _of_functions:
        environ = await anyio.to_thread.run_sync(_traced, project)
        traces = telemetry.load(environ)
    tracing = Tracing(traces, chosen.name or "app")
    if not traces.asked and not logging.getLogger("jetrunner.telemetry").isEnabledFor(logging.DEBUG):
        tracing.presume_missing()  # nobody asked for a collector: no warning if there is none
    try:
        async with open_connection(chosen) as connection:
            tracing.at(connection.url)
            yield App(connection, tracing, chosen.name or "app", chosen.balance)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(tracing.shutdown, 3.0)


@contextmanager
def working_with(settings: Settings) -> Iterator[None]:
    """For the time of the block, `connect()` in a function goes to the server that its messages come from."""
    _of_functions.append(settings)
    try:
        yield
    finally:
        _of_functions.remove(settings)


def _traced(folder: Path | str | None) -> Mapping[str, str]:
    """The environment; where it sets no collector, traces go to a running `runner dev`."""
    return devserver.traced(devserver.find_root(Path(folder or ".")), os.environ)


def _settings(nats_url: str | None, folder: Path | str | None) -> Settings:
    if nats_url is None and folder is None and _of_functions:
        return _of_functions[-1]
    root, given = devserver.find_root(Path(folder or ".")), {"nats_url": nats_url}
    if folder is not None and not (root if nats_url else root / "pyproject.toml").exists():
        raise SettingsError(
            f"there is no project in {folder}", hint="give project= the folder with its pyproject.toml"
        )
    settings = load_settings(root, given)
    if not devserver.is_elsewhere(settings, given) and (url := devserver.address(root)):
        return structs.replace(settings, nats_url=url)
    return settings
