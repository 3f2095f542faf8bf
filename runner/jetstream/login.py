"""The login: nats-py's own connect options for the settings, credentials and TLS among them."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from runner.config import Settings, redact
from runner.errors import SettingsError
from runner.jetstream.credentials import text_of


def options(settings: Settings) -> dict[str, Any]:
    """nats-py's own connect options for the settings."""
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


def require_readable(url: str) -> None:
    """Raise `SettingsError` for a URL that nats-py would quote, password and all, in an error of its own."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
        readable = "@" not in parts.path + parts.query + parts.fragment
    except ValueError:
        readable = False
    if not readable:
        raise SettingsError(
            f"the NATS URL {redact(url)} cannot be read",
            hint="a user or password with #, /, ? or [ in it does not fit into a URL: set NATS_USER and NATS_PASSWORD",
        )


def tls(settings: Settings) -> ssl.SSLContext:
    """The TLS context; a file that is missing or broken is a `SettingsError`."""
    try:
        context = ssl.create_default_context(cafile=settings.nats_tls_ca or None)
        if settings.nats_tls_cert:
            context.load_cert_chain(settings.nats_tls_cert, settings.nats_tls_key or None)
    except OSError as error:
        raise SettingsError(
            f"TLS files cannot be used: {error}", hint="check nats_tls_ca, nats_tls_cert and nats_tls_key"
        ) from None
    return context
