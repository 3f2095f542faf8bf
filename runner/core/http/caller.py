"""Callers: the results of an authentication."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct


class Caller(Struct, frozen=True):
    """A caller who may ask."""

    auth: str
    """The name of the authentication that accepted the caller."""
    name: str
    """The name of the key, the subject of the token, or the name of the authentication itself."""
    claims: Mapping[str, Any] = {}
    """The claims of the token; empty without a token."""


class Denied(Struct, frozen=True):
    """A caller who may not ask."""

    status: Literal[401, 403]
    """401: the caller has not shown who it is. 403: it has, but may not ask, or its signature does not fit the body."""
    detail: str
    """One sentence for the client, which quotes neither the given nor the expected value."""
    challenge: str = ""
    """The value of `WWW-Authenticate`, with 401."""
    wrong: bool = False
    """Whether the caller has shown a wrong key, token or signature, which may have been guessed."""


def single(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The value of a header that occurs once. None when it is missing, or occurs twice: nobody knows which one counts."""
    values = [value for key, value in headers if key == name]
    return values[0].strip() if len(values) == 1 else None


def bearer(value: bytes | None) -> bytes | None:
    """The token of `Authorization: Bearer …`."""
    scheme, _, token = (value or b"").partition(b" ")
    return token.strip() or None if scheme.lower() == b"bearer" else None
