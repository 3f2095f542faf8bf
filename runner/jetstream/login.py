"""The login: nats-py's connect options from the settings, with credentials and TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from nats.aio.client import Client

from runner.config import Settings, redact
from runner.errors import SettingsError
from runner.jetstream.credentials import text_of


def options(settings: Settings, client: Client) -> dict[str, Any]:
    """The options for `client.connect`; settings override what the URLs hold."""
    servers = [url.strip() for url in settings.nats_url.split(",") if url.strip()]
    for url in servers:
        require_readable(url)
    chosen: dict[str, Any] = {"servers": servers}
    credentials = (
        ("user", settings.nats_user),
        ("password", settings.nats_password),
        ("token", settings.nats_token),
        ("user_credentials", settings.nats_creds),
        ("nkeys_seed", settings.nats_nkey),
        ("inbox_prefix", settings.nats_inbox_prefix),
    )
    chosen.update((option, value) for option, value in credentials if value)
    if not (
        {"user", "password"} <= chosen.keys() or {"token", "user_credentials", "nkeys_seed"} & chosen.keys()
    ):
        chosen.update(_of_urls(servers, client))
    if settings.nats_creds or settings.nats_nkey:
        try:
            import nkeys  # type: ignore[import-untyped]  # noqa: F401, PLC0415  # an extra: only credentials of this kind need it
        except ImportError:
            raise SettingsError(
                "credentials of this kind need the nkeys package", hint="pip install 'jetrunner[nkeys]'"
            ) from None
    if settings.nats_creds:
        try:
            text_of(settings.nats_creds)
        except OSError as error:
            raise SettingsError(
                f"{settings.nats_creds} cannot be read: {error.strerror}", hint="check --nats-creds"
            ) from None
    if (
        settings.nats_tls_ca
        or settings.nats_tls_cert
        or "tls://" in settings.nats_url
        or settings.nats_tls_first
    ):
        chosen["tls"] = tls(settings)
        chosen["tls_handshake_first"] = settings.nats_tls_first
    return chosen


def _of_urls(servers: list[str], client: Client) -> dict[str, Any]:
    """The user and password, or the token, from the URLs; nats-py would send them with their escapes.

    A server without its own, such as one that the cluster tells of, gets those of the first server that has some.
    """
    found = {url: own for url in servers if (own := userinfo(url)) is not None}
    if not found:
        return {}
    if len({len(own) for own in found.values()}) > 1:
        raise SettingsError(
            "one NATS URL holds a token, another a user and password",
            hint="give all servers the same kind of credentials",
        )
    first = next(iter(found.values()))

    def of_current(place: int) -> Callable[[], str]:
        def asked() -> str:
            server = client._current_server  # noqa: SLF001  # nats-py has no public word for where it connects to
            own = userinfo(server.uri.geturl()) if server is not None else None
            return (own or first)[place]

        return asked

    if len(first) == 1:
        return {"token": of_current(0)}
    return {"user": of_current(0), "password": of_current(1)}


def userinfo(url: str) -> tuple[str, ...] | None:
    """`(user, password)` or `(token,)` of a URL, without its escapes (`%40` for `@`); None if it has neither."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    escaped = (parts.username,) if parts.password is None else (parts.username, parts.password)
    return tuple(unquote(each, errors="strict") for each in escaped)


def require_readable(url: str) -> None:
    """Raise `SettingsError` for a URL that nats-py would quote in an error of its own, with the password."""
    try:
        parts = urlsplit(url)
        _ = parts.port, userinfo(url)  # raises if the port is not a number, or the userinfo no text
        readable = "@" not in parts.path + parts.query + parts.fragment
    except ValueError:
        readable = False
    if not readable:
        raise SettingsError(
            f"the NATS URL {redact(url)} cannot be read",
            hint="in a user or password, write other characters than letters and digits as escapes (%2F for /), "
            "or set NATS_USER and NATS_PASSWORD",
        )


def tls(settings: Settings) -> ssl.SSLContext:
    """The TLS context; raises `SettingsError` if a file is missing or broken."""
    try:
        context = ssl.create_default_context(cafile=settings.nats_tls_ca or None)
        if settings.nats_tls_cert:
            context.load_cert_chain(settings.nats_tls_cert, settings.nats_tls_key or None)
    except OSError as error:
        raise SettingsError(
            f"TLS files cannot be used: {error}", hint="check nats_tls_ca, nats_tls_cert and nats_tls_key"
        ) from None
    return context
