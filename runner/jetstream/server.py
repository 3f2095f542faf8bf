"""The server: whether it is new enough, and has JetStream."""

from __future__ import annotations

from runner.errors import JetrunnerError, NoStream, ServerError
from runner.jetstream.connection import Connection
from runner.jetstream.publisher import insist

OLDEST_SERVER = (2, 12)


async def check_server(connection: Connection, patience: float = 0.0) -> None:
    """Raise a clear error unless the server is new enough and has JetStream; so many seconds are waited for its leader."""
    version = connection.server_version
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < OLDEST_SERVER:
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
        enabled = await insist(has_jetstream, patience, "JetStream")
    except ServerError as error:
        raise JetrunnerError(f"JetStream is not usable{where}: {error}", hint=error.hint) from None
    if not enabled:
        raise JetrunnerError(
            f"JetStream is not enabled{where}",
            hint="start nats-server with -js, or enable it for the account",
        )
