"""Checks of the server: it is new enough, it has JetStream, and its cluster and a subject's stream have leaders."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from runner.core import shown
from runner.core.quantity import format_duration
from runner.errors import JetrunnerError, NoStream, PermissionDenied, ServerError
from runner.jetstream import codes
from runner.jetstream.connection import Connection
from runner.jetstream.publisher import retry_until, unanswered

OLDEST_SERVER = (2, 12)
NOTICE_SECONDS = 1.0
AGAIN_SECONDS = 0.25
REACH = "start the servers of the stream: most of them must run, and reach each other"
"""What helps a stream without a leader."""
ENABLE = "start nats-server with -js, or enable it for the account"


async def led(connection: Connection, patience: float, tell: Callable[[str], None]) -> None:
    """Return once JetStream has a leader: without one, missing answers would look like missing streams.

    `tell` is called once if this has to wait. Raises JetrunnerError after `patience` seconds.
    """
    until = anyio.current_time() + patience
    told = False
    while True:
        try:
            await connection.api("STREAM.NAMES", timeout=NOTICE_SECONDS)
        except (PermissionDenied, NoStream):
            return  # no permission to ask, or no JetStream: later calls say so
        except ServerError as error:
            if not unanswered(error):
                return
            why = str(error)
        else:
            return
        if not told:
            told = True
            what = (
                "the cluster has no leader that answers"
                if connection.is_connected
                else "the connection is lost"
            )
            tell(f"waiting: {what}; at most {format_duration(patience)}")
        if anyio.current_time() >= until:
            raise JetrunnerError(
                f"the cluster has no leader: JetStream did not answer for {format_duration(patience)} ({why})",
                hint="start the other servers: most of them must run, and reach each other; leader_timeout says how long is waited",
            )
        await anyio.sleep(AGAIN_SECONDS)


async def leaderless(connection: Connection, subject: str) -> str:
    """Why nothing answers on a subject that a stream captures, or may capture; empty if no stream captures it.

    In a cluster a stream has no leader for seconds while one is elected, and a new leader is heard of with a delay.
    """
    try:
        found = await connection.api("STREAM.NAMES", {"subject": subject}, timeout=NOTICE_SECONDS)
    except ServerError as error:
        if not connection.is_connected:
            return "the connection is lost"
        return f"the cluster has no leader that answers ({error})" if unanswered(error) else ""
    names = found.get("streams") or []
    return f"the stream {shown.line(str(names[0]))} has no leader" if names else ""


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
        except NoStream:
            return False
        return True

    where = f" at {connection.url}" if connection.url else ""
    try:
        enabled = await retry_until(has_jetstream, patience, "JetStream")
    except ServerError as error:
        hint = ENABLE if error.code in codes.NO_JETSTREAM else error.hint
        raise JetrunnerError(f"JetStream is not usable{where}: {error}", hint=hint) from None
    if not enabled:
        raise JetrunnerError(f"JetStream is not enabled{where}", hint=ENABLE)
