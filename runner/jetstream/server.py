"""Checks of the server: it is new enough, it has JetStream, and its cluster and a subject's stream have leaders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from runner.core import shown
from runner.core.quantity import format_duration
from runner.errors import JetrunnerError, NoResponders, ServerError
from runner.jetstream import codes
from runner.jetstream.connection import Connection
from runner.jetstream.publisher import retry_until, unanswered

T = TypeVar("T")

OLDEST_SERVER = (2, 12)
NOTICE_SECONDS = 1.0
AGAIN_SECONDS = 0.25
PATIENCE_SECONDS = 20.0
"""How long the leader of one of our own streams is waited for."""
REACH = "start the servers of the stream: most of them must run, and reach each other"
OTHERS = "start the other servers: most of them must run, and reach each other; leader_timeout says how long is waited"
ENABLE = "start nats-server with -js, or enable it for the account"
LEADERLESS = "the cluster has no leader that answers"
NOBODY = "no server of the cluster answers for JetStream"


async def led(connection: Connection, patience: float, tell: Callable[[str], None]) -> None:
    """Return once JetStream has a leader: without one, missing answers would look like missing streams.

    `tell` is called once if this has to wait. Raises JetrunnerError after `patience` seconds.
    """
    until = anyio.current_time() + patience
    told = False
    while True:
        what, hint = LEADERLESS, OTHERS
        try:
            await connection.api("STREAM.NAMES", timeout=NOTICE_SECONDS)
        except NoResponders as error:
            if not connection.clustered:
                return  # no JetStream: later calls say so
            what, hint, why = NOBODY, f"{ENABLE}; or {OTHERS}", str(error)
        except ServerError as error:
            if not unanswered(error):
                return  # no permission to ask, or not enabled for the account: later calls say so
            why = str(error)
        else:
            return
        if not told:
            told = True
            tell(
                f"waiting: {what if connection.is_connected else 'the connection is lost'}; at most {format_duration(patience)}"
            )
        if anyio.current_time() >= until:
            raise JetrunnerError(
                f"{what}: JetStream did not answer for {format_duration(patience)} ({why})", hint=hint
            )
        await anyio.sleep(AGAIN_SECONDS)


async def leaderless(connection: Connection, subject: str, stream: str = "") -> str:
    """Why nothing answers on a subject that a stream captures, or may capture; empty if no stream, or not `stream`, captures it.

    In a cluster a stream has no leader for seconds while one is elected, and a new leader is heard of with a delay.
    """
    try:
        found = await connection.api("STREAM.NAMES", {"subject": subject}, timeout=NOTICE_SECONDS)
    except NoResponders:
        return NOBODY if connection.clustered else ""
    except ServerError as error:
        if not connection.is_connected:
            return "the connection is lost"
        return f"{LEADERLESS} ({error})" if unanswered(error) else ""
    names = [name for name in found.get("streams") or [] if stream in ("", name)]
    return f"the stream {shown.line(str(names[0]))} has no leader" if names else ""


def no_leader(why: str) -> ServerError:
    """The error for what `leaderless` has told for too long."""
    return ServerError(why, hint=f"{ENABLE}; or {REACH}" if why == NOBODY else REACH)


async def until_led(
    connection: Connection, stream: str, subject: str, attempt: Callable[[], Awaitable[T]]
) -> T:
    """Await `attempt()`, which asks a stream that captures `subject`; again for 20 s while the stream has no leader.

    Raises `NoResponders` if there is no such stream, and ServerError if it has no leader in that time.
    """
    until = anyio.current_time() + PATIENCE_SECONDS
    while True:
        try:
            return await attempt()
        except NoResponders:
            if not (why := await leaderless(connection, subject, stream)):
                raise
        if anyio.current_time() >= until:
            raise no_leader(why)
        await anyio.sleep(AGAIN_SECONDS)


def release(version: str) -> tuple[int, ...]:
    """Major and minor number of a server's version; empty if it tells none."""
    return tuple(int(part) for part in version.split("-", maxsplit=1)[0].split(".")[:2] if part.isdigit())


async def check_server(connection: Connection, patience: float = 0.0) -> None:
    """Raise a clear error unless the server is new enough and has JetStream; waits `patience` seconds for its leader."""
    version = connection.server_version
    if release(version) < OLDEST_SERVER:
        raise JetrunnerError(
            f"nats-server {version or 'of unknown version'} is too old: atomic batches need 2.12",
            hint="upgrade nats-server to 2.12 or newer",
        )

    async def has_jetstream() -> bool:
        try:
            await connection.api("INFO")
        except NoResponders:
            if connection.clustered:
                raise
            return False
        return True

    where = f" at {connection.url}" if connection.url else ""
    try:
        enabled = await retry_until(has_jetstream, patience, "JetStream")
    except ServerError as error:
        absent = error.code in codes.NO_JETSTREAM or isinstance(error, NoResponders)
        hint = ENABLE if absent else error.hint
        raise JetrunnerError(f"JetStream is not usable{where}: {error}", hint=hint) from None
    if not enabled:
        raise JetrunnerError(f"JetStream is not enabled{where}", hint=ENABLE)
