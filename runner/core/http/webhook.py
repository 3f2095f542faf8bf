"""Webhooks: the body is signed, byte for byte as it came, with a secret that both sides know.

| style | header | what is signed |
|---|---|---|
| `github` | `X-Hub-Signature-256: sha256=<hex>` | the body |
| `stripe` | `Stripe-Signature: t=<time>,v1=<hex>` | `<time>.<body>` |
| `standard` | `Webhook-Signature: v1,<base64>`, with `Webhook-Id` and `Webhook-Timestamp` | `<id>.<time>.<body>` |
| `generic` | `X-Signature: <hex>`, or as the settings say | the body, or `<time>.<body>` |

All signatures are HMAC-SHA256. If a time is signed, a request is refused when that time is off by more than the tolerance. Within
the tolerance, or without a signed time, an intercepted request can be sent again: an effect that must happen once needs an id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.core.http.caller import Caller, Denied, single

Style: TypeAlias = Literal["github", "stripe", "standard", "generic"]

MOST = 8
"""Most signatures in one header that are checked: two while a secret is changed, and some of other versions."""

_TIME = re.compile(rb"[0-9]{1,12}")
_NEEDED = "A signature is needed."
_WRONG = Denied(403, "The signature does not fit the body.", wrong=True)
_STALE = Denied(403, "The signature is too old, or of a time to come.", wrong=True)


class _Signed(Struct, frozen=True):
    """The signatures of a request, and the signed text beside the body."""

    signatures: Sequence[bytes]
    before: bytes = b""
    """The bytes before the body in the signed text."""
    time: bytes | None = None


class Webhook(Struct, frozen=True, kw_only=True):
    """An authentication by signatures, with its secrets."""

    auth: str
    """The authentication's name in the settings."""
    style: Style
    secrets: Sequence[bytes]
    """The secrets; more than one while a secret is changed."""
    tolerance: float = 300.0
    """Seconds by which a signed time may be off."""
    header: str = "x-signature"
    """For `generic`: the header with the signature, in lower case."""
    prefix: str = ""
    """For `generic`: the text before the signature, such as `sha256=`."""
    encoding: Literal["hex", "base64"] = "hex"
    """For `generic`: the encoding of the signature."""
    timestamp_header: str | None = None
    """For `generic`: the header with the time, in seconds since 1970, which is signed too."""

    def __repr__(self) -> str:
        return f"Webhook({self.auth!r}, {self.style!r})"

    def check(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, now: float) -> Caller | Denied:
        """Check the signature of the body; `now` is in seconds since 1970."""
        signed = _READ[self.style](self, headers)
        if signed is None or not signed.signatures:
            return Denied(401, _NEEDED, "Signature")
        good = False
        for secret in self.secrets:
            expected = hmac.digest(secret, signed.before + body, hashlib.sha256)
            for given in signed.signatures[:MOST]:
                good |= hmac.compare_digest(given, expected)
        if not good:
            return _WRONG
        if signed.time is not None and abs(now - int(signed.time)) > self.tolerance:
            return _STALE
        return Caller(self.auth, self.auth)


def secret(text: str, style: Style) -> bytes:
    """Read a secret into its bytes: for `standard`, base64 follows `whsec_`. ValueError shows nothing of the secret."""
    if style == "standard" and text.startswith("whsec_"):
        try:
            found = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            raise ValueError("what follows whsec_ is base64") from None
    else:
        found = text.encode()
    if len(found) < 16:
        raise ValueError("a secret has 16 bytes or more")
    return found


def _github(hook: Webhook, headers: Sequence[tuple[bytes, bytes]]) -> _Signed | None:
    given = single(headers, b"x-hub-signature-256")
    if given is None or not given.startswith(b"sha256="):
        return None
    return _Signed(_decoded([given.removeprefix(b"sha256=")], "hex"))


def _stripe(hook: Webhook, headers: Sequence[tuple[bytes, bytes]]) -> _Signed | None:
    pairs = [part.partition(b"=") for part in (single(headers, b"stripe-signature") or b"").split(b",")]
    times = [value for key, _, value in pairs if key.strip() == b"t"]
    if len(times) != 1 or not _TIME.fullmatch(times[0]):
        return None
    signatures = _decoded([value for key, _, value in pairs if key.strip() == b"v1"], "hex")
    return _Signed(signatures, times[0] + b".", times[0])


def _standard(hook: Webhook, headers: Sequence[tuple[bytes, bytes]]) -> _Signed | None:
    identity = single(headers, b"webhook-id")
    time = single(headers, b"webhook-timestamp")
    if not identity or time is None or not _TIME.fullmatch(time):
        return None
    given = (single(headers, b"webhook-signature") or b"").split(b" ")
    signatures = [each.removeprefix(b"v1,") for each in given if each.startswith(b"v1,")]
    return _Signed(_decoded(signatures, "base64"), identity + b"." + time + b".", time)


def _generic(hook: Webhook, headers: Sequence[tuple[bytes, bytes]]) -> _Signed | None:
    given = single(headers, hook.header.encode())
    if given is None or not given.startswith(hook.prefix.encode()):
        return None
    signatures = _decoded([given.removeprefix(hook.prefix.encode())], hook.encoding)
    if hook.timestamp_header is None:
        return _Signed(signatures)
    time = single(headers, hook.timestamp_header.encode())
    if time is None or not _TIME.fullmatch(time):
        return None
    return _Signed(signatures, time + b".", time)


_READ = {"github": _github, "stripe": _stripe, "standard": _standard, "generic": _generic}


def _decoded(texts: Sequence[bytes], encoding: Literal["hex", "base64"]) -> list[bytes]:
    """Decode the signatures, and keep those that are whole SHA-256 digests."""
    found: list[bytes] = []
    for text in texts[:MOST]:
        try:
            digest = (
                base64.b64decode(text, validate=True) if encoding == "base64" else binascii.unhexlify(text)
            )
        except (binascii.Error, ValueError):
            continue
        if len(digest) == hashlib.sha256().digest_size:
            found.append(digest)
    return found
