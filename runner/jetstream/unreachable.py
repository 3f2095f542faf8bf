"""Explains why a first connection did not come up, with a remedy."""

from __future__ import annotations

import ssl

from runner.errors import Unreachable

REFUSED = ("authorization violation", "authentication", "user authentication", "account", "nkey", "jwt")
"""Words in errors that mean refused credentials."""


def unreachable(where: str, error: BaseException | None) -> Unreachable:
    """The error for a first connection that failed."""
    reason = str(error or "").removeprefix("nats: ").strip("'") or (
        type(error).__name__ if error else "no answer"
    )
    text = reason.lower()
    if isinstance(error, ssl.SSLError):
        return Unreachable(
            f"NATS at {where} refused TLS: {reason}",
            hint="check nats_tls_ca, the certificate and the host name",
        )
    if any(word in text for word in REFUSED):
        return Unreachable(
            f"NATS at {where} refused the credentials", hint="check --nats-creds, the user and the password"
        )
    if "tls" in text or "ssl" in text:
        return Unreachable(
            f"NATS at {where} wants TLS: {reason}", hint="set nats_tls_ca, or use a tls:// address"
        )
    return Unreachable(
        f"cannot reach NATS at {where}: {reason}",
        hint="start one (`runner dev` brings its own), or set --nats-url or NATS_URL",
    )
