"""The credentials of a connection: they are read from their files again for each new connection.

A file that is renewed while we run counts from the next connection on: JWT credentials before they expire, the seed of an nkey, or
a context of the `nats` CLI with a password or a token. A half-written file only makes one attempt fail.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from msgspec import structs
from nats.aio.client import Client, RawCredentials
from nats.errors import Error

from runner import natscontext
from runner.config import Settings
from runner.errors import SettingsError
from runner.jetstream.transport import LosingTransport

WORDS = ("nats_user", "nats_password", "nats_token")
PARTS = ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED")
STALE = "Stale Connection"
WEBSOCKET = ("ws", "wss")


def text_of(file: str) -> str:
    """The content of a credentials file. Raises `SettingsError` if it is not a JWT and a seed, and OSError."""
    text = Path(file).read_text(encoding="ascii", errors="replace")
    if any(part not in text for part in PARTS):  # nats-py would search for it for ever
        raise SettingsError(
            f"{file} holds no JWT and seed of a user", hint="make it with: nsc generate creds"
        )
    return text


class Credentials:
    """The credentials that the settings name, with their present content."""

    def __init__(self, settings: Settings) -> None:
        self.creds = settings.nats_creds
        self.seed = settings.nats_nkey
        self.words = settings
        self._of_context: frozenset[str] = frozenset()
        self._of_context = frozenset(
            key for key, value in self._context().items() if key in WORDS and getattr(settings, key) == value
        )

    def read(self) -> None:
        """Read the context again. If its file cannot be read, the known values stay."""
        found = self._context()
        self.words = structs.replace(
            self.words, **{key: found[key] for key in self._of_context if isinstance(found.get(key), str)}
        )

    def _context(self) -> dict[str, object]:
        if self.words.nats_context is None:
            return {}
        try:
            return natscontext.read(self.words.nats_context, os.environ)[1]
        except SettingsError:
            return {}

    @property
    def digest(self) -> bytes:
        """A digest of the content, to notice a change."""
        self.read()
        seen = blake2b(repr([getattr(self.words, key) for key in WORDS]).encode())
        for file in (self.creds, self.seed):
            try:
                seen.update(Path(file).read_bytes() if file else b"")
            except OSError:
                seen.update(b"?")
        return seen.digest()


class RenewingClient(Client):
    """nats-py's client, with credentials that are read again; it closes only when it is told to.

    nats-py itself closes for good at most errors of a server. Here the server closes a connection if it wants to; then we connect
    again.
    """

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._files = credentials

    async def _connect_to_server(self, s: Any) -> None:
        if not self._transport and s.uri.scheme not in WEBSOCKET:
            self._transport = LosingTransport()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(s)

    async def _ping_interval(self) -> None:
        with suppress(OSError):  # the connection is lost: the next one starts another
            await super()._ping_interval()

    async def _process_err(self, err_msg: str) -> None:
        if STALE in err_msg:
            await super()._process_err(err_msg)
            return
        words = err_msg.strip("'")
        self._err = Error(f"nats: {words}")
        await self._error_cb(self._err)

    def _connect_command(self) -> bytes:
        try:
            self._renew()
            return super()._connect_command()
        except OSError as error:
            raise Error(f"nats: the credentials cannot be read: {error.strerror}") from None
        except SettingsError as error:
            raise Error(f"nats: {error}") from None
        except Exception as error:  # noqa: BLE001  # nkeys has its own, whose texts may quote the seed
            raise Error(f"nats: the credentials cannot be used: {type(error).__name__}") from None

    def _renew(self) -> None:
        files = self._files
        if files.creds is not None:
            self._user_credentials = RawCredentials(text_of(files.creds))
            self._setup_nkeys_connect()
        elif files.seed is not None:
            self._setup_nkeys_connect()
        elif files.words.nats_context is not None:
            files.read()
            for option, value in (
                ("user", files.words.nats_user),
                ("password", files.words.nats_password),
                ("token", files.words.nats_token),
            ):
                if value:
                    self.options[option] = value
