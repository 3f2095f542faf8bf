"""Who asks: what an authentication has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct


class Caller(Struct, frozen=True):
    """Somebody who may ask."""

    auth: str
    """The name of the authentication that holds."""
    name: str
    """Of the key, of the token's subject, or of the authentication itself."""
    claims: Mapping[str, Any] = {}
    """What a token says of him; empty otherwise."""


class Denied(Struct, frozen=True):
    """Somebody who may not."""

    status: Literal[401, 403]
    """401: he has not shown who he is. 403: he has, or has signed another body than came."""
    detail: str
    """One sentence for the client: never what was given, nor what was expected."""
    challenge: str = ""
    """The value of `WWW-Authenticate`, with 401."""
    wrong: bool = False
    """Whether he has shown something that does not hold: it may have been guessed."""


def single(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The value of a header that stands once; None where it is missing, or stands twice, as nobody knows which one counts."""
    values = [value for key, value in headers if key == name]
    return values[0].strip() if len(values) == 1 else None


def bearer(value: bytes | None) -> bytes | None:
    """The token of `Authorization: Bearer …`."""
    scheme, _, token = (value or b"").partition(b" ")
    return token.strip() or None if scheme.lower() == b"bearer" else None
