"""One connection to NATS: it connects, reconnects for ever, describes errors in a sentence, and closes.

Rule 1: a first connection that does not come up in `patience` seconds raises `Unreachable`. A server that is there and silent has four
        times as long: its machine may stand still. Wrong credentials and a refused TLS handshake raise it at once. After that
        the connection reconnects for ever.
Rule 2: credentials that the server no longer takes are read from their files again, and tried again. If they are still refused, and
        have not changed for 10 s, the connection is closed for good: `closed` is set and the process must end.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from math import inf
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.errors import Error

from runner.config import Settings, redact
from runner.core import apianswer as answers
from runner.core import checked
from runner.core import header as headers
from runner.core.checked import Unfit
from runner.core.news import News
from runner.errors import ServerError, SettingsError
from runner.jetstream import fork
from runner.jetstream.batches import Batches
from runner.jetstream.closing import close
from runner.jetstream.credentialrefusals import CredentialRefusals
from runner.jetstream.credentials import Credentials, RenewingClient
from runner.jetstream.inbox import Inbox, ask
from runner.jetstream.inflight import InFlight
from runner.jetstream.login import options
from runner.jetstream.plainwire import PlainWire
from runner.jetstream.publisher import ROOM_TO_RESERVE, Publisher, read_ack
from runner.jetstream.reader import abort
from runner.jetstream.serverclock import ServerClock
from runner.jetstream.unreachable import REFUSED, unreachable
from runner.jetstream.wire import Wire, fits

log = logging.getLogger("jetrunner.connection")

API_SECONDS = 5.0
SILENT = 4
"""How many times the usual patience a server has that takes the connection and says nothing."""
HEARD_SECONDS = 5
SAID_SECONDS = 60.0
"""An error of the server that comes again on a live connection is logged again after so long: a refused write is tried 20 times a second."""
MOST_SAID = 1000
_read = checked.json(dict[str, Any])


class Connection:
    """A live connection: `wire` reads and writes, `publisher` and `batches` store messages, `api` calls JetStream's own API."""

    def __init__(self, client: Client, wire: Any, inbox: Inbox, publisher: Publisher) -> None:
        self.client = client
        self.wire = wire
        self.inbox = inbox
        self.publisher = publisher
        self.batches = Batches(wire, inbox, publisher)
        self.replicas = 1
        """Replicas for our own streams, if they have to be made."""
        self.closed = asyncio.Event()
        self.clock = ServerClock()
        self.news = News()
        """What was told of our own streams."""
        self.in_flight = InFlight()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection right now."""
        return bool(self.client.is_connected)

    @property
    def max_payload(self) -> int:
        """Most bytes that the server takes in one message, headers included."""
        return int(self.client.max_payload)

    @property
    def server_version(self) -> str:
        """The server's version; empty if the server does not tell it."""
        return str(self.client._server_info.get("version", ""))  # noqa: SLF001  # nats-py has no public word for it

    @property
    def server_id(self) -> str:
        """The id of the server that we are connected to; it may change with a reconnect."""
        return str(self.client._server_info.get("server_id", ""))  # noqa: SLF001

    @property
    def clustered(self) -> bool:
        """Whether the server is one of a cluster."""
        return bool(self.client._server_info.get("cluster"))  # noqa: SLF001

    @property
    def url(self) -> str:
        """The URL that we are connected to, without credentials."""
        url = self.client.connected_url
        return redact(url.geturl()) if url else ""

    def new_inbox(self) -> str:
        """A new subject that nobody else uses."""
        return str(self.client.new_inbox())

    async def heard(self) -> None:
        """Return once the server knows all subscriptions. Without a connection, return at once: the next one begins with them."""
        self.wire.flush()
        with suppress(Error, OSError, TimeoutError):
            for _ in range(2):  # nats-py's first PING overtakes data in its buffer
                await self.client.flush(HEARD_SECONDS)

    def answer(self, reply: bytes, body: bytes) -> None:
        """Answer a question to the runner itself, but only at an inbox.

        The asker chooses the reply subject: anywhere else the answer would use our permissions on a subject where the asker may not
        publish.
        """
        if self.inbox.is_one(reply):
            with suppress(ValueError):
                self.wire.publish(reply, body, b"")

    async def api(
        self, suffix: str, body: dict[str, Any] | None = None, timeout: float = API_SECONDS
    ) -> dict[str, Any]:
        """Call JetStream's own API: `api("STREAM.INFO.ORDERS")`. An error in the answer is raised as `ServerError`."""
        asked = time.monotonic()
        answer = await self.request(
            f"$JS.API.{suffix}", msgspec.json.encode(body) if body is not None else b"", timeout
        )
        try:
            reply = _read(answer)
        except Unfit as error:
            raise ServerError(f"the answer to {suffix} cannot be read: {error}") from None
        if "error" in reply:
            read_ack(msgspec.json.encode({"error": reply["error"]}), room=ROOM_TO_RESERVE)
        if wrong := answers.check(suffix, reply):
            raise ServerError(f"the answer to {suffix} is not the server's: {wrong}")
        answers.raise_floors(suffix, reply)
        self.clock.hear(reply, asked)
        return reply

    async def request(
        self,
        subject: str,
        body: bytes,
        timeout: float = API_SECONDS,
        pairs: list[tuple[str, str]] | None = None,
    ) -> bytes:
        """Ask and wait for one answer. Raises `NoResponders` if the subject has no subscriber, `Unconfirmed` after `timeout` seconds."""
        return (await self.request_whole(subject, body, timeout, pairs))[1]

    async def request_whole(
        self,
        subject: str,
        body: bytes,
        timeout: float = API_SECONDS,
        pairs: list[tuple[str, str]] | None = None,
    ) -> tuple[bytes | None, bytes]:
        """Like `request`, with the raw header block of the answer. Raises `TooLarge`, so that the connection is not lost."""
        header = headers.encode(pairs) if pairs else b""
        self.publisher.check_size(subject, len(body) + len(header))
        return await ask(self.inbox, self.wire, subject.encode(), body, timeout, header)


@asynccontextmanager
async def connect(  # noqa: C901, PLR0915  # nats-py takes its callbacks as closures
    settings: Settings, *, patience: float = 2.0, name: str = "jetrunner"
) -> AsyncIterator[Connection]:
    """Connect for the time of the block. Raises `Unreachable` and `SettingsError`."""
    credentials = Credentials(settings)
    client = RenewingClient(credentials)
    refusals = CredentialRefusals(credentials, lambda: ending.append(asyncio.create_task(end())))
    ending: list[asyncio.Task[None]] = []
    last: list[BaseException] = []
    refused, told = asyncio.Event(), ""
    said: dict[str, float] = {}
    connection: Connection | None = None

    async def on_error(error: Exception) -> None:
        nonlocal told
        if not refused.is_set():  # keep the refusal: a connection reset follows it
            last[:] = [error]
        if not client.is_connected:
            abort(client)  # nats-py would leave the socket of a failed attempt open
        if connection is None:
            if isinstance(error, ssl.SSLError) or any(word in str(error).lower() for word in REFUSED):
                refused.set()
            return
        text = str(error).removeprefix("nats: ") or type(error).__name__
        refusals.heard(text, connected=connection.is_connected)
        connection.inbox.denied(text)
        if connection.is_connected:
            told, now = "", time.monotonic()
            if now - said.get(text, -inf) >= SAID_SECONDS:
                said[text] = now
                log.warning("nats: %s", text)
            if len(said) > MOST_SAID:
                said.clear()
        elif told != text:  # one line for an outage, not one for each attempt
            told = text
            log.warning("nats: %s", text)

    async def on_disconnect() -> None:
        if connection is not None:
            log.warning("connection to %s lost; reconnecting", where)
            if isinstance(connection.wire, PlainWire):
                connection.wire.disconnected()
            connection.inbox.lost()

    async def on_reconnect() -> None:
        if connection is not None:
            log.info("connected again to %s", connection.url)
            if connection.is_connected:  # the server may have ended it again before this is called
                refusals.over()
            connection.wire.flush()

    async def on_close() -> None:
        if connection is not None:
            connection.closed.set()

    async def end() -> None:
        await close(client)
        await on_close()  # nats-py does not call it if a part of its closing fails

    where = redact(settings.nats_url)
    connecting = asyncio.create_task(
        client.connect(
            **options(settings, client),
            name=name,
            error_cb=on_error,
            disconnected_cb=on_disconnect,
            reconnected_cb=on_reconnect,
            closed_cb=on_close,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,  # type: ignore[arg-type]  # any number of seconds
            connect_timeout=2,
            ping_interval=5,
            max_outstanding_pings=2,
        )
    )
    refusal = asyncio.create_task(refused.wait())
    try:
        for seconds in (patience, (SILENT - 1) * patience):
            await asyncio.wait({connecting, refusal}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done() or refused.is_set() or (last and not isinstance(last[0], TimeoutError)):
                break
        if not connecting.done():
            raise unreachable(where, last[0] if last else None)  # noqa: TRY301  # closes like the others
        try:
            connecting.result()
        except (OSError, ValueError, ssl.SSLError, Error) as error:
            raise unreachable(where, error) from None
        except Exception as error:  # noqa: BLE001  # nkeys has its own, and their texts may quote the seed
            raise SettingsError(
                f"the credentials cannot be used: {type(error).__name__}",
                hint="check the credentials file, or the file of the nkey's seed",
            ) from None
    except BaseException:
        connecting.cancel()
        await asyncio.wait({connecting})
        with suppress(AssertionError, OSError):  # nats-py cannot close what it has not begun
            await client.close()
        raise
    finally:
        refusal.cancel()
    try:
        wire: Any = Wire(client) if settings.wire != "plain" and fits(client) else PlainWire(client)
        inbox = Inbox(wire, client.new_inbox())
        publisher = Publisher(wire, inbox, lambda: client.max_payload)
        connection = Connection(client, wire, inbox, publisher)
        connection.in_flight = InFlight(settings.max_bytes_in_flight)
        wire.on_drop = inbox.lost
        await inbox.open()
        with fork.ours(partial(descriptor, client)):
            yield connection
    finally:
        if connection is not None:
            connection.wire.flush()
            connection.inbox.close()
            this, connection = connection, None
            await close(this.client)
        else:
            await close(client)


def descriptor(client: Client) -> int | None:
    """The descriptor of the connection's socket; None if there is no socket."""
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    opened = writer.get_extra_info("socket") if writer is not None else None
    return opened.fileno() if opened is not None else None
